import { statSync } from 'node:fs';
import type { Row } from './row.ts';

/** B11: the size of the program's file. */
export function size(): Row[] {
  const value = statSync('bin/metadataproxy').size / 1000;
  return [{
    benchmark: 'B11', what: 'bin/metadataproxy', proxy: `${Math.round(value)} kB`, comparedWith: '-', value, spread: [value, value],
    target: '≤ 500 kB', met: value <= 500,
  }];
}
