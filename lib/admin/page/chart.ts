import { latency, formatInteger } from '../../util/format.ts';
import { html, type Html, type Part } from '../html.ts';
import type { RequestFigures, Status } from '../status.ts';

/** The plot's own units: a minute is one wide; it is stretched to the place there is. */
const HEIGHT = 100;
/** Of the minute's width; the rest keeps the bars apart. */
const BAR_WIDTH = 0.78;

/** The last hour: how many requests, and how long they took. */
export function charts({ minutes, last_hour: hour }: Status): Html {
  return html`<div class="charts">${requestChart(minutes, hour)}${latencyChart(minutes, hour)}</div>`;
}

function requestChart(minutes: readonly RequestFigures[], hour: RequestFigures): Html {
  const most = Math.max(...minutes.map(({ requests }) => requests));
  const top = roundUp(most);
  const bars = minutes.map(({ requests, refused, failed }, x) => {
    const served = requests - refused - failed;
    let y = HEIGHT;
    const bar = (kind: string, count: number): Html | '' => {
      if (count === 0) return '';
      const height = (count / top) * HEIGHT;
      y -= height;
      return html`<rect class="${kind}" x="${x}" y="${digits(y)}" width="${BAR_WIDTH}" height="${digits(height)}"/>`;
    };
    return [bar('served', served), bar('refused', refused), bar('failed', failed)];
  });
  const told =
    `${formatInteger(hour.requests)} requests in the last hour, at most ${formatInteger(most)} in one minute; ` +
    `${formatInteger(hour.refused)} refused, ${formatInteger(hour.failed)} failed.`;
  return html`<figure>
<figcaption><strong>Requests a minute</strong> <span class="key"><span class="key-served">served</span>
<span class="key-refused">refused</span> <span class="key-failed">failed</span></span></figcaption>
${plot('requests', 'Requests a minute', told, [formatInteger(top), '0'], [grid(0), grid(HEIGHT), bars])}</figure>`;
}

function latencyChart(minutes: readonly RequestFigures[], hour: RequestFigures): Html {
  const values = minutes.flatMap(({ p50, p99 }) => [p50, p99]).filter((value) => value !== null);
  // Whole powers of ten, and at least one of them: 0.1 to 1 ms where there is nothing to show.
  const lowest = Math.floor(Math.log10(Math.max(Math.min(...values, 0.0009), 0.00001)));
  const highest = Math.max(Math.ceil(Math.log10(Math.max(...values, 0.001))), lowest + 1);
  const y = (seconds: number): number =>
    HEIGHT - Math.max((Math.log10(Math.max(seconds, 1e-9)) - lowest) / (highest - lowest), 0) * HEIGHT;
  const decades = Array.from({ length: highest - lowest + 1 }, (_, index) => grid(y(10 ** (lowest + index))));
  const line = (kind: 'p50' | 'p99'): Html => {
    const steps = minutes.map((minute, x) => {
      const value = minute[kind];
      if (value === null) return '';
      const before = minutes[x - 1]?.[kind] ?? null;
      return `${before === null ? `M${x} ` : 'V'}${digits(y(value))}H${x + 1}`;
    });
    return html`<path class="${kind}" d="${steps.join('')}"/>`;
  };
  const told =
    hour.p50 === null
      ? 'No requests in the last hour.'
      : `In the last hour half of the requests took at most ${latency(hour.p50)}, 99 of 100 at most ${latency(hour.p99)}.`;
  const scale = [powerOfTen(highest), powerOfTen(lowest)] as const;
  return html`<figure>
<figcaption><span><strong>Latency</strong> <span class="quiet">log scale</span></span> <span class="key"><span class="key-p50">p50 ${latency(hour.p50)}</span>
<span class="key-p99">p99 ${latency(hour.p99)}</span></span></figcaption>
${plot('latency', 'Latency', told, scale, [decades, line('p99'), line('p50')])}</figure>`;
}

function plot(id: string, title: string, told: string, scale: readonly [string, string], inside: Part): Html {
  const [top, bottom] = scale;
  return html`<div class="plot"><div class="y" aria-hidden="true"><span>${top}</span><span>${bottom}</span></div>
<svg viewBox="0 0 60 ${HEIGHT}" preserveAspectRatio="none" role="img" aria-labelledby="${id}-title ${id}-desc">
<title id="${id}-title">${title}</title><desc id="${id}-desc">${told}</desc>${inside}</svg>
<div class="x" aria-hidden="true"><span>60 min ago</span><span>30</span><span>now</span></div></div>`;
}

function grid(y: number): Html {
  return html`<path class="grid" d="M0 ${digits(y)}H60"/>`;
}

function digits(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Of seconds. */
function powerOfTen(exponent: number): string {
  return exponent < 0 ? `${Number((10 ** (exponent + 3)).toPrecision(1))} ms` : `${10 ** exponent} s`;
}

/** The next number of the form 1, 2 or 5 times a power of ten; 1 at the least. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= value) ?? value;
}
