import { short, type Row } from './row.ts';

const COLUMNS = ['benchmark', 'what', 'proxy', 'compared with', 'ratio or value', 'min to max', 'target', 'met'] as const;

/** A Markdown table. */
export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.benchmark, row.what, row.proxy, row.comparedWith, short(row.value), spread(row), row.target || '-',
    row.met === undefined ? '-' : row.met ? 'yes' : '**no**',
  ]);
  return markdown(COLUMNS, cells);
}

export function markdown(columns: readonly string[], cells: readonly (readonly string[])[]): string {
  const line = (values: readonly string[]): string => `| ${values.join(' | ')} |`;
  return [line(columns), line(columns.map(() => '---')), ...cells.map(line)].join('\n');
}

function spread({ spread: [minimum, maximum] }: Row): string {
  return minimum === maximum ? '-' : `${short(minimum)} to ${short(maximum)}`;
}
