import { parseGoDuration } from '../util/go-duration.ts';

/** Source: STS API reference, `AssumeRole`, DurationSeconds. */
const MIN_DURATION_S = 15 * 60;
const MAX_DURATION_S = 12 * 60 * 60;

/** @returns whole seconds; undefined for what is no duration from 15m to 12h */
export function parseRoleDuration(text: string): number | undefined {
  const seconds = Math.floor((parseGoDuration(text) ?? NaN) / 1000);
  return seconds >= MIN_DURATION_S && seconds <= MAX_DURATION_S ? seconds : undefined;
}

export const ROLE_DURATION_FORM = 'a duration from 15m to 12h';
