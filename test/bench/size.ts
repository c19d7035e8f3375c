import { statSync } from 'node:fs';
import type { Row } from './row.ts';

/** B11: the program's file. */
export function size(): Row[] {
  const value = statSync('bin/metadataproxy').size / 1000;
  return [{
    figure: 'B11', what: 'bin/metadataproxy', ours: `${Math.round(value)} kB`, against: '-', value, spread: [value, value],
    target: '≤ 500 kB', met: value <= 500,
  }];
}
