import { short, type Row } from './row.ts';

const COLUMNS = ['figure', 'what', 'proxy', 'against', 'ratio or value', 'least to most', 'target', 'met'] as const;

/** As Markdown, which reads well in a terminal, too. */
export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.figure, row.what, row.ours, row.against, short(row.value), spread(row), row.target || '-',
    row.met === undefined ? '-' : row.met ? 'yes' : '**no**',
  ]);
  return markdown(COLUMNS, cells);
}

export function markdown(columns: readonly string[], cells: readonly (readonly string[])[]): string {
  const line = (values: readonly string[]): string => `| ${values.join(' | ')} |`;
  return [line(columns), line(columns.map(() => '---')), ...cells.map(line)].join('\n');
}

function spread({ spread: [least, most] }: Row): string {
  return least === most ? '-' : `${short(least)} to ${short(most)}`;
}
