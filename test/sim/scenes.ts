import { SeededRandom } from '../support/seeded-random.ts';
import { Fleet, type FleetSize } from './fleet.ts';
import { HOUR, Ledger, MINUTE, rates, SAMPLE_MS, type History } from './ledger.ts';
import { VirtualClock } from './virtual-clock.ts';

export interface Scene {
  readonly name: string;
  readonly title: string;
  readonly duration: number;
  /** Start and end of an STS outage, in milliseconds from the start. */
  readonly outage?: readonly [number, number];
  readonly play: (fleet: Fleet) => void;
}

/** Hosts that boot together do so within this time. */
const BOOT_WITHIN_MS = 10_000;
/** The hosts of a slowly grown fleet boot within this time. At EVENT_AT no effect of that is left. */
const GROWN_WITHIN_MS = 1 * HOUR;
const EVENT_AT = 2 * HOUR;
const EVENT_DURATION = 30 * MINUTE;

export const SCENES: readonly Scene[] = [
  {
    name: 'restart',
    title: 'All hosts restart at the same time',
    duration: 6 * HOUR,
    play: (fleet) => fleet.boot(BOOT_WITHIN_MS),
  },
  {
    name: 'sts-away',
    title: 'STS is unavailable for 30 minutes',
    duration: 5 * HOUR,
    outage: [EVENT_AT, EVENT_AT + EVENT_DURATION],
    play: (fleet) => fleet.boot(GROWN_WITHIN_MS),
  },
  {
    name: 'deploy',
    title: 'Every container is replaced over 30 minutes',
    duration: 5 * HOUR,
    play: (fleet) => {
      fleet.boot(GROWN_WITHIN_MS);
      fleet.deploy(EVENT_AT, EVENT_DURATION);
    },
  },
];

export interface PlayOptions extends FleetSize {
  readonly seed: number;
  readonly jitter: boolean;
  readonly stsPerSecond: number;
}

/** Plays a scene on a new fleet. The same options give the same history. */
export async function play(scene: Scene, options: PlayOptions): Promise<History> {
  const clock = new VirtualClock();
  const chance = new SeededRandom(options.seed);
  const storeChance = new SeededRandom(options.seed + 1);
  const start = clock.now();
  const ledger = new Ledger(options.hosts * options.requestsPerHost, start, scene.duration);
  const [from, to] = scene.outage ?? [Infinity, Infinity];
  const fleet = new Fleet({
    ...options, clock, ledger,
    random: () => chance.next(),
    storeRandom: options.jitter ? () => storeChance.next() : () => 0.5,
    isUnavailable: (now) => now - start >= from && now - start < to,
  });
  scene.play(fleet);
  await clock.run(start + scene.duration);
  return ledger.history;
}

/** Rates are averages over so many seconds: over one second, random variation alone makes peaks. */
export const RATE_WINDOW_S = 10;
/** The steady rate is the average of the last so many seconds of a scene. */
const STEADY_OVER_S = 90 * 60;

export interface Findings {
  /** STS calls per second: at the end; the peak; and the peak from the first and the second refresh on. */
  readonly steady: number;
  readonly peak: number;
  readonly peakFromFirstRefresh: number;
  readonly peakFromSecondRefresh: number;
  readonly calls: number;
  readonly throttled: number;
  /** The maximum of all samples. */
  readonly low: number;
  readonly expired: number;
  /** Expired although STS was reachable within the hour before. */
  readonly expiredThoughReachable: number;
  /** When the last container got its first credentials, in seconds from the start. */
  readonly allServedAfter: number;
}

export function findings(scene: Scene, history: History): Findings {
  const perWindow = rates(history.attempts, RATE_WINDOW_S);
  const highest = (from = 0): number => highestOf(perWindow.slice(Math.ceil(from / 1000 / RATE_WINDOW_S)));
  const steady = perWindow.slice(-STEADY_OVER_S / RATE_WINDOW_S);
  const [from, to] = scene.outage ?? [Infinity, Infinity];
  const unavailableForAnHour = (at: number): boolean => at >= from + HOUR && at <= to;
  const sum = (counts: Uint32Array): number => counts.reduce((total, count) => total + count, 0);
  return {
    steady: steady.reduce((total, rate) => total + rate, 0) / steady.length,
    peak: highest(),
    peakFromFirstRefresh: highest(history.firstRefreshAt),
    peakFromSecondRefresh: highest(history.secondRefreshAt),
    calls: sum(history.attempts),
    throttled: sum(history.throttled),
    low: highestOf(history.low),
    expired: highestOf(history.expired),
    expiredThoughReachable: highestOf(history.expired.filter((_, sample) => !unavailableForAnHour(sample * SAMPLE_MS))),
    allServedAfter: (history.without.findLastIndex((count) => count > 0) + 1) * SAMPLE_MS / 1000,
  };
}

function highestOf(values: readonly number[]): number {
  return values.reduce((highest, value) => Math.max(highest, value), 0);
}
