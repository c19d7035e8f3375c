import { latency, formatInteger } from '../../util/format.ts';
import { html, type Html, type Part } from '../html.ts';
import type { RequestSummary, Status } from '../status.ts';

/** In the units of the SVG, in which a minute is 1 wide. The SVG is stretched to the page. */
const HEIGHT = 100;
/** The rest of the minute's width is the gap between bars. */
const BAR_WIDTH = 0.78;

/** The requests of the last hour, and their latencies. */
export function charts({ minutes, last_hour: hour }: Status): Html {
  return html`<div class="charts">${requestChart(minutes, hour)}${latencyChart(minutes, hour)}</div>`;
}

function requestChart(minutes: readonly RequestSummary[], hour: RequestSummary): Html {
  const most = Math.max(...minutes.map(({ requests }) => requests));
  const top = roundUp(most);
  const bars = minutes.map(({ requests, refused, failed }, x) => {
    const served = requests - refused - failed;
    let y = HEIGHT;
    const bar = (kind: string, count: number): Html | '' => {
      if (count === 0) return '';
      const height = (count / top) * HEIGHT;
      y -= height;
      return html`<rect class="${kind}" x="${x}" y="${round(y)}" width="${BAR_WIDTH}" height="${round(height)}"/>`;
    };
    return [bar('served', served), bar('refused', refused), bar('failed', failed)];
  });
  const description =
    `${formatInteger(hour.requests)} requests in the last hour, at most ${formatInteger(most)} in one minute; ` +
    `${formatInteger(hour.refused)} refused, ${formatInteger(hour.failed)} failed.`;
  return html`<figure>
<figcaption><strong>Requests per minute</strong> <span class="key"><span class="key-served">served</span>
<span class="key-refused">refused</span> <span class="key-failed">failed</span></span></figcaption>
${plot('requests', 'Requests per minute', description, [formatInteger(top), '0'], [grid(0), grid(HEIGHT), bars])}</figure>`;
}

function latencyChart(minutes: readonly RequestSummary[], hour: RequestSummary): Html {
  const values = minutes.flatMap(({ p50, p99 }) => [p50, p99]).filter((value) => value !== null);
  // Whole powers of ten, at least one apart: 0.1 to 1 ms without requests.
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
      return `${before === null ? `M${x} ` : 'V'}${round(y(value))}H${x + 1}`;
    });
    return html`<path class="${kind}" d="${steps.join('')}"/>`;
  };
  const description =
    hour.p50 === null
      ? 'No requests in the last hour.'
      : `In the last hour the median latency was ${latency(hour.p50)}, the 99th percentile ${latency(hour.p99)}.`;
  const scale = [powerOfTen(highest), powerOfTen(lowest)] as const;
  return html`<figure>
<figcaption><span><strong>Latency</strong> <span class="quiet">log scale</span></span> <span class="key"><span class="key-p50">p50 ${latency(hour.p50)}</span>
<span class="key-p99">p99 ${latency(hour.p99)}</span></span></figcaption>
${plot('latency', 'Latency', description, scale, [decades, line('p99'), line('p50')])}</figure>`;
}

function plot(id: string, title: string, description: string, scale: readonly [string, string], content: Part): Html {
  const [top, bottom] = scale;
  return html`<div class="plot"><div class="y" aria-hidden="true"><span>${top}</span><span>${bottom}</span></div>
<svg viewBox="0 0 60 ${HEIGHT}" preserveAspectRatio="none" role="img" aria-labelledby="${id}-title ${id}-desc">
<title id="${id}-title">${title}</title><desc id="${id}-desc">${description}</desc>${content}</svg>
<div class="x" aria-hidden="true"><span>60 min ago</span><span>30</span><span>now</span></div></div>`;
}

function grid(y: number): Html {
  return html`<path class="grid" d="M0 ${round(y)}H60"/>`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** 10^exponent seconds. */
function powerOfTen(exponent: number): string {
  return exponent < 0 ? `${Number((10 ** (exponent + 3)).toPrecision(1))} ms` : `${10 ** exponent} s`;
}

/** The next 1, 2 or 5 times a power of ten; at least 1. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= value) ?? value;
}
