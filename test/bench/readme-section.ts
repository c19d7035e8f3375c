import { readFileSync, writeFileSync } from 'node:fs';

/** Replaces the text between `<!-- name -->` and `<!-- /name -->` of README.md. */
export function writeReadmeSection(name: string, text: string): void {
  const readme = readFileSync('README.md', 'utf8');
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [start, end] = [readme.indexOf(open), readme.indexOf(close)];
  if (start < 0 || end < start) throw new Error(`README.md has no section ${open}`);
  writeFileSync('README.md', `${readme.slice(0, start + open.length)}\n\n${text}\n\n${readme.slice(end)}`);
}
