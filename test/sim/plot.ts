import { HOUR, MINUTE, rates, SAMPLE_MS, type History } from './ledger.ts';
import type { Scene } from './scenes.ts';

const WIDTH = 960;
const HEIGHT = 620;
const LEFT = 84;
const RIGHT = 24;
const PANEL_HEIGHT = 200;
const PANEL_TOPS = [92, 362] as const;
/** One point per so many seconds, about one per pixel. */
const POINT_S = 30;
const COLOURS = { jitter: '#0b62a8', none: '#d9822b', quota: '#b3261e', outage: '#f3dcda', text: '#222', grid: '#e3e3e3' } as const;

/** The time that one text sign represents. It shows the highest of its points. */
const SIGN_S = 240;
/** A sign and the rate below which it is used. The steady rate is 74, the quota 600. */
const SIGNS = [['▁', 25], ['▂', 50], ['▃', 100], ['▄', 200], ['▅', 600], ['▆', 2_000], ['▇', 10_000], ['█', Infinity]] as const;

interface Series {
  readonly label: string;
  readonly colour: string;
  /** x in milliseconds from the start. */
  readonly points: readonly (readonly [number, number])[];
}

interface Panel {
  readonly top: number;
  readonly title: string;
  readonly series: readonly Series[];
  /** Logarithmic, because a peak is hundreds of times the steady rate. */
  readonly logarithmic?: boolean;
  /** A level to mark, and its label. */
  readonly level?: { readonly y: number; readonly label: string };
}

/** An SVG document with two panels over the same time: STS calls, and credentials close to expiry. */
export function plotScene(scene: Scene, jitter: History, none: History, quota: number): string {
  const both = (pointsOf: (history: History) => [number, number][]): Series[] => [
    { label: 'without jitter', colour: COLOURS.none, points: pointsOf(none) },
    { label: 'with jitter', colour: COLOURS.jitter, points: pointsOf(jitter) },
  ];
  const panels: Panel[] = [
    {
      top: PANEL_TOPS[0],
      title: `STS calls per second (averages over ${POINT_S} s; logarithmic)`,
      logarithmic: true,
      series: both((history) => rates(history.attempts, POINT_S).map((rate, at) => [at * POINT_S * 1000, rate])),
      level: { y: quota, label: `quota: ${quota}/s` },
    },
    {
      top: PANEL_TOPS[1],
      title: 'Credentials with less than 15 minutes left, expired ones included',
      series: both((history) => history.low.map((low, at) => [at * SAMPLE_MS, low + (history.expired[at] ?? 0)])),
    },
  ];
  const text = `font-family="sans-serif" fill="${COLOURS.text}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">
<rect width="100%" height="100%" fill="#fff"/>
<text x="${LEFT}" y="34" ${text} font-size="20" font-weight="bold">${scene.title}</text>
${legend(panels[0]?.series ?? [])}
${panels.map((panel) => drawPanel(scene, panel)).join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}" ${text} font-size="13" text-anchor="middle">hours since the start</text>
</svg>
`;
}

/** The legend for `lines`. */
export const KEY = `STS calls per second, maximum of ${SIGN_S / 60} minutes: ` +
  SIGNS.map(([sign, below]) => `${sign} ${below === Infinity ? 'more' : `< ${below.toLocaleString('en')}`}`).join('  ');

/** The first panel as two lines of text. */
export function lines(jitter: History, none: History): string {
  const line = (history: History): string => {
    const points = rates(history.attempts, POINT_S);
    const width = SIGN_S / POINT_S;
    const peaks = Array.from({ length: Math.ceil(points.length / width) }, (_, at) => {
      return Math.max(...points.slice(at * width, (at + 1) * width));
    });
    return peaks.map((peak) => (peak === 0 ? ' ' : SIGNS.find(([, below]) => peak < below)?.[0])).join('');
  };
  return `with     ${line(jitter)}\nwithout  ${line(none)}`;
}

function legend(series: readonly Series[]): string {
  return [...series].reverse().map(({ label, colour }, at) => {
    const x = LEFT + at * 150;
    return `<line x1="${x}" y1="54" x2="${x + 26}" y2="54" stroke="${colour}" stroke-width="3"/>` +
      `<text x="${x + 33}" y="58" font-family="sans-serif" font-size="13" fill="${COLOURS.text}">${label}</text>`;
  }).join('');
}

function drawPanel(scene: Scene, { top, title, series, logarithmic = false, level }: Panel): string {
  const highest = Math.max(1, level?.y ?? 0, ...series.flatMap(({ points }) => points.map(([, y]) => y)));
  const ticks = logarithmic ? decadesTo(highest) : stepsTo(highest);
  const maximum = ticks.at(-1) ?? 1;
  const share = (value: number): number => logarithmic ? Math.log10(Math.max(value, 1)) / Math.log10(maximum) : value / maximum;
  const bottom = top + PANEL_HEIGHT;
  const x = (at: number): number => round(LEFT + (WIDTH - LEFT - RIGHT) * at / scene.duration);
  const y = (value: number): number => round(bottom - PANEL_HEIGHT * share(value));
  const label = (px: number, py: number, words: string, anchor: string, colour: string = COLOURS.text): string =>
    `<text x="${px}" y="${py}" font-family="sans-serif" font-size="12" text-anchor="${anchor}" fill="${colour}">${words}</text>`;
  const line = (x1: number, y1: number, x2: number, y2: number, colour: string, more = ''): string =>
    `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colour}" ${more}/>`;
  const elements: string[] = [];
  if (scene.outage !== undefined) {
    const [from, to] = scene.outage;
    elements.push(`<rect x="${x(from)}" y="${top}" width="${x(to) - x(from)}" height="${PANEL_HEIGHT}" fill="${COLOURS.outage}"/>`);
    elements.push(label((x(from) + x(to)) / 2, top + 14, 'STS unavailable', 'middle', COLOURS.quota));
  }
  for (const value of ticks) {
    elements.push(line(LEFT, y(value), WIDTH - RIGHT, y(value), COLOURS.grid));
    elements.push(label(LEFT - 8, y(value) + 4, value.toLocaleString('en'), 'end'));
  }
  for (let at = 0; at <= scene.duration; at += 30 * MINUTE) {
    elements.push(line(x(at), bottom, x(at), bottom + 5, COLOURS.text));
    if (at % HOUR === 0) elements.push(label(x(at), bottom + 20, String(at / HOUR), 'middle'));
  }
  for (const { colour, points } of series) {
    const path = points.map(([at, value]) => `${x(at)},${y(value)}`).join(' ');
    elements.push(`<polyline fill="none" stroke="${colour}" stroke-width="1.5" stroke-linejoin="round" points="${path}"/>`);
  }
  if (series.every(({ points }) => points.every(([, value]) => value === 0))) {
    elements.push(label((LEFT + WIDTH - RIGHT) / 2, top + PANEL_HEIGHT / 2, 'none at any time', 'middle'));
  }
  if (level !== undefined) {
    elements.push(line(LEFT, y(level.y), WIDTH - RIGHT, y(level.y), COLOURS.quota, 'stroke-dasharray="6 4"'));
    elements.push(label(WIDTH - RIGHT - 4, y(level.y) - 5, level.label, 'end', COLOURS.quota));
  }
  elements.push(line(LEFT, bottom, WIDTH - RIGHT, bottom, COLOURS.text), line(LEFT, top, LEFT, bottom, COLOURS.text));
  elements.push(`<text x="${LEFT}" y="${top - 10}" font-family="sans-serif" font-size="13" font-weight="bold" ` +
    `fill="${COLOURS.text}">${title}</text>`);
  return elements.join('\n');
}

function decadesTo(highest: number): number[] {
  const count = Math.max(1, Math.ceil(Math.log10(highest)));
  return Array.from({ length: count + 1 }, (_, power) => 10 ** power);
}

/** Four or five equal steps from 0, each 1, 2 or 5 times a power of ten. */
function stepsTo(highest: number): number[] {
  const minimum = highest / 4;
  const power = 10 ** Math.max(0, Math.floor(Math.log10(minimum)));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= minimum) ?? power;
  return Array.from({ length: Math.ceil(highest / step) + 1 }, (_, at) => at * step);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
