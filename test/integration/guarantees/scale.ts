/** SOAK=1 runs the amounts that README states, in minutes. Without it a short form runs in seconds. */
export const SOAK = process.env['SOAK'] === '1';

/** The amount for the short or the full form. */
export function sized(short: number, full: number): number {
  return SOAK ? full : short;
}

export const arnOf = (name: string): string => `arn:aws:iam::123456789012:role/${name}`;
