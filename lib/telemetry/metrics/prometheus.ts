/**
 * The text formats of Prometheus and OpenMetrics. Sources: Prometheus, "Exposition formats"; the OpenMetrics
 * specification, 1.0.
 */

import { Counter, Histogram, type Family, type Gauge } from './registry.ts';

export interface Exposition {
  /** The media type. */
  readonly type: string;
  readonly text: string;
}

const TEXT = 'text/plain; version=0.0.4; charset=utf-8';
const OPEN_METRICS = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

/** @param accept the scraper's Accept header; Prometheus itself prefers OpenMetrics */
export function exposition(families: readonly Family[], accept = ''): Exposition {
  const open = accept.toLowerCase().includes('application/openmetrics-text');
  const lines = families.flatMap((family) => familyLines(family, open));
  if (open) lines.push('# EOF');
  return { type: open ? OPEN_METRICS : TEXT, text: `${lines.join('\n')}\n` };
}

const TOTAL = '_total';

function familyLines(family: Family, open: boolean): string[] {
  const { series } = family;
  if (series.length === 0) return [];
  const name = prometheusName(family.name);
  const labelNames = family.labelNames.map(prometheusName);
  const lines = [...headLines(family, name, open)];
  for (const one of series) lines.push(...seriesLines(name, labelNames, one));
  return lines;
}

/** OpenMetrics names a counter without `_total`. go-metadataproxy's counters lack it, so their type is unknown there. */
function headLines({ kind, help }: Family, name: string, open: boolean): string[] {
  const isCounter = kind === 'counter';
  const bare = open && isCounter && name.endsWith(TOTAL) ? name.slice(0, -TOTAL.length) : name;
  const type = open && isCounter && bare === name ? 'unknown' : kind;
  return [`# HELP ${bare} ${escapeHelp(help)}.`, `# TYPE ${bare} ${type}`];
}

function seriesLines(name: string, labelNames: readonly string[], series: Counter | Gauge | Histogram): string[] {
  const labels = labelNames.flatMap((label, index) => {
    const value = series.labels[index] ?? '';
    return value === '' ? [] : [`${label}="${escapeValue(value)}"`];
  });
  if (!(series instanceof Histogram)) return [`${name}${braced(labels)} ${numeral(series.value)}`];
  const lines: string[] = [];
  let cumulative = 0;
  for (const [bucket, count] of series.counts.entries()) {
    cumulative += count;
    const bound = numeral(series.bounds[bucket] ?? Infinity);
    lines.push(`${name}_bucket${braced([...labels, `le="${bound}"`])} ${cumulative}`);
  }
  lines.push(`${name}_sum${braced(labels)} ${numeral(series.sum)}`, `${name}_count${braced(labels)} ${cumulative}`);
  return lines;
}

/** Replaces dots by underscores, as go-metrics does, and every other character that names must not contain. */
export function prometheusName(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_');
}

function braced(labels: readonly string[]): string {
  return labels.length === 0 ? '' : `{${labels.join(',')}}`;
}

function numeral(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}

function escapeHelp(text: string): string {
  return text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');
}

function escapeValue(text: string): string {
  return escapeHelp(text).replace(/"/g, '\\"');
}
