/**
 * Keeps the registry in step with the engine: opens an event stream, reads everything, applies the events, and starts
 * again before the stream ends.
 *
 *   state          entered                                         what answers rest on
 *   starting       at the start                                    nothing
 *   synced         a stream is open, everything before it read     the registry
 *   disconnected   the stream has ended without a successor, or    the registry only while the engine provably cannot
 *                  a stream has not ended when it should have      have started a container (see `nothingStarted`)
 *
 * Silence is not news: each stream is one that the engine ends after a minute. Before that the next one is opened and
 * everything is read again, which also removes what lost events would have removed. A stream that the engine does not
 * end in time is silent because something holds it back. After that the state stays `disconnected` until a stream of
 * three seconds has ended in time.
 *
 * Interleaving: concurrent attempts to open a stream are one, and calls of `rescan` share the next one that has not
 * begun. While a full read awaits the engine, its events are kept and applied after it, in order and
 * without an await in between, so none is lost. The stream before it goes on meanwhile; what both report is applied
 * twice, which ends in the same state. While a rescan awaits the engine, events are applied at once. Tombstones keep
 * both reads from bringing back what events removed. Each read changes the registry synchronously after its last await.
 */

import type { Events } from '../events.ts';
import { backoff } from '../util/backoff.ts';
import { sleep, type Clock } from '../util/clock.ts';
import { EngineFailure, EngineUnreachable, type Engine, type EngineEvent } from './engine.ts';
import type { Lookups } from './lookups.ts';
import { traitsOf, type EngineTraits } from './confirmed-answers.ts';
import { readAll } from './read-all.ts';
import type { Registry } from './registry.ts';

export type DirectoryState = 'starting' | 'synced' | 'disconnected';

export interface EngineSyncOptions {
  engine: Pick<Engine, 'allContainers' | 'networkAddresses' | 'events'>;
  registry: Registry;
  lookups: Lookups;
  clock: Clock;
  random: () => number;
  /** Milliseconds between full reads, at most; 0 for no further bound. */
  resyncEvery: number;
  events: Pick<Events, 'directoryStateChanged'>;
}

/** Connecting to a socket costs little, and a daemon that is back should be noticed before its containers ask. */
const RECONNECT_INITIAL_MS = 100;
const RECONNECT_MAX_MS = 1_000;
/** A failed attempt answers every `connect` within this time: a container takes longer than that to start. */
const FAILURE_TTL_MS = 100;
/** After a rescan the engine rests for as long as it took (Podman takes 1 ms per container), up to this. */
const MAX_RESCAN_REST_MS = 1_000;
/** From one stream to the next, which makes up for lost events. Each costs a list: 2 MB for 1,000 containers. */
const MAX_RENEWAL_MS = 50_000;
const MIN_RENEWAL_MS = 1_000;
/** How much longer a stream lasts: inspects of containers that hang may take seconds, and clocks may differ by 2 s. */
const OVERLAP_MS = 10_000;
/** Twice: the first may be due at once when the process was suspended, but then what the engine sent is still unread. */
const STREAM_GRACE_MS = 5_000;
/** A stream that proves, after one that did not end in time, that events arrive again. Clocks may differ by 2 s. */
const PROBE_SECONDS = 3;

const STREAM_ENDED = 'the Docker Engine ended its event stream';
const STREAM_SILENT = 'the event stream has not ended when the Docker Engine should have ended it: events are being lost';

interface Stream {
  readonly controller: AbortController;
  readonly ended: Promise<Error>;
}

export class EngineSync {
  readonly #options: EngineSyncOptions;
  #state: DirectoryState = 'starting';
  #problem: Error | undefined;
  #traits = traitsOf({ isPodman: false, isRelayed: false });
  /** The streams that have not ended. The events of the newest are applied. */
  readonly #streams = new Set<Stream>();
  #stream: Stream | undefined;
  #onLost = (): void => {};
  /** Whether a stream was silent, and none has ended in time since. */
  #mustProbe = false;
  readonly #renewalMs: number;
  readonly #closing = new AbortController();
  #connecting: Promise<Error | undefined> | undefined;
  #lastFailure: { at: number; error: Error } | undefined;
  /** Whether the engine has not answered anything since the event stream ended. */
  #silentSinceStream = true;
  /** The next rescan, as long as it has not begun. */
  #nextRescan: Promise<void> | undefined;
  #rescan: Promise<void> = Promise.resolve();
  #nextRescanAt = -Infinity;

  constructor(options: EngineSyncOptions) {
    this.#options = options;
    this.#renewalMs = Math.min(Math.max(options.resyncEvery || MAX_RENEWAL_MS, MIN_RENEWAL_MS), MAX_RENEWAL_MS);
  }

  get state(): DirectoryState {
    return this.#state;
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The state, and what is wrong. */
  get detail(): string {
    return this.#problem ? `${this.#state}: ${this.#problem.message}` : this.#state;
  }

  get traits(): EngineTraits {
    return this.#traits;
  }

  /** Follows the engine in the background until `close`. */
  start(): void {
    void this.#follow();
  }

  close(): void {
    this.#closing.abort();
    this.#onLost();
  }

  /**
   * Whether no container can have started, and got an address, since the event stream ended.
   *
   * @param error of the last attempt to connect
   */
  nothingStarted(error: Error | undefined): boolean {
    return error instanceof EngineUnreachable && this.#silentSinceStream && this.#traits.startsNeedApi;
  }

  /**
   * One attempt to open the event stream and to read everything.
   *
   * @returns what went wrong, or undefined when the directory is synced
   */
  connect(): Promise<Error | undefined> {
    if (this.#state === 'synced') return Promise.resolve(undefined);
    const { clock } = this.#options;
    if (this.#lastFailure && clock.monotonic() - this.#lastFailure.at < FAILURE_TTL_MS) {
      return Promise.resolve(this.#lastFailure.error);
    }
    return this.#attempt();
  }

  #attempt(): Promise<Error | undefined> {
    const { clock } = this.#options;
    this.#connecting ??= this.#openAndRead()
      .then(
        () => undefined,
        (error: Error) => {
          if (!(error instanceof EngineUnreachable)) this.#silentSinceStream = false;
          // The same error of each attempt is reported once. While a stream is open, its own end is what counts.
          if (this.#state !== 'synced' && error.message !== this.#lastFailure?.error.message) this.#report(error);
          this.#lastFailure = { at: clock.monotonic(), error };
          return error;
        },
      )
      .finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  /** Lists all containers once more, beginning after the call. */
  rescan(): Promise<void> {
    const { clock } = this.#options;
    this.#nextRescan ??= this.#rescan
      .catch(() => {})
      .then(() => sleep(clock, this.#nextRescanAt - clock.monotonic()))
      .then(() => {
        this.#nextRescan = undefined;
        const began = clock.monotonic();
        this.#nextRescanAt = began + this.#traits.rescanIntervalMs;
        return (this.#rescan = readAll(this.#options, this.#traits, 'add').finally(() => {
          const ended = clock.monotonic();
          this.#nextRescanAt = Math.max(this.#nextRescanAt, ended + Math.min(ended - began, MAX_RESCAN_REST_MS));
        }));
      });
    return this.#nextRescan;
  }

  async #follow(): Promise<void> {
    const { clock, random } = this.#options;
    let failures = 0;
    while (!this.#closed) {
      const began = clock.monotonic();
      const error = await this.connect();
      if (!error) await this.#renewUntilLost();
      failures = !error && clock.monotonic() - began > RECONNECT_MAX_MS ? 1 : failures + 1;
      // Reopen a stream that ended at once, but not again and again if each one ends at once.
      if (!error && failures === 1) continue;
      if (!this.#closed) await sleep(clock, backoff(failures, RECONNECT_INITIAL_MS, RECONNECT_MAX_MS, random));
    }
  }

  /** Resolves when the state is not `synced` any more, or the sync is closed. */
  async #renewUntilLost(): Promise<void> {
    const { clock } = this.#options;
    let isLost = false;
    const lost = new Promise<void>((resolve) => (this.#onLost = resolve)).then(() => (isLost = true));
    let pause = this.#renewalMs;
    while (this.#state === 'synced' && !this.#closed && !isLost) {
      await Promise.race([lost, sleep(clock, pause)]);
      if (this.#state !== 'synced' || this.#closed) break;
      const error = await Promise.race([lost, this.#attempt()]);
      pause = error ? RECONNECT_MAX_MS : this.#renewalMs;
    }
  }

  async #openAndRead(): Promise<void> {
    const { engine, lookups } = this.#options;
    if (this.#mustProbe) await this.#probe();
    const controller = new AbortController();
    const early: EngineEvent[] = [];
    let stream: Stream | undefined;
    const apply = (event: EngineEvent): void => {
      if (!stream) early.push(event);
      else if (stream === this.#stream) lookups.apply(event);
    };
    const seconds = (this.#renewalMs + OVERLAP_MS) / 1_000;
    const opened = await engine.events(apply, this.#untilClosed(controller), seconds);
    this.#silentSinceStream = false;
    this.#traits = traitsOf(opened);
    let ended: Error | undefined;
    const end = opened.ended.then((error): Error => (ended = error ?? new EngineFailure(STREAM_ENDED)));

    try {
      await readAll(this.#options, this.#traits, this.#state === 'synced' ? 'renew' : 'replace');
      if (ended) throw ended;
    } catch (error) {
      controller.abort();
      throw error;
    }
    this.#stream = stream = { controller, ended: end };
    for (const event of early) lookups.apply(event);
    this.#streams.add(stream);
    void this.#watch(stream, seconds);
    this.#lastFailure = undefined;
    if (this.#state !== 'synced') this.#setState('synced');
  }

  /** Waits for the stream's end, which comes in time, and after the next stream is open. */
  async #watch(stream: Stream, seconds: number): Promise<void> {
    const inTime = await this.#endsInTime(stream.ended, seconds);
    if (!this.#streams.delete(stream)) return;
    stream.controller.abort();
    if (inTime && stream !== this.#stream) return;
    this.#mustProbe ||= !inTime;
    this.#lose(inTime ? await stream.ended : new EngineFailure(STREAM_SILENT));
  }

  async #probe(): Promise<void> {
    const controller = new AbortController();
    const { ended } = await this.#options.engine.events(() => {}, this.#untilClosed(controller), PROBE_SECONDS);
    const inTime = await this.#endsInTime(ended, PROBE_SECONDS);
    controller.abort();
    if (!inTime) throw new EngineFailure(STREAM_SILENT);
    this.#mustProbe = false;
  }

  #untilClosed({ signal }: AbortController): AbortSignal {
    return AbortSignal.any([signal, this.#closing.signal]);
  }

  async #endsInTime(ended: Promise<unknown>, seconds: number): Promise<boolean> {
    const { clock } = this.#options;
    const late = sleep(clock, seconds * 1_000 + STREAM_GRACE_MS).then(() => sleep(clock, STREAM_GRACE_MS));
    return Promise.race([ended.then(() => true), late.then(() => false)]);
  }

  #lose(error: Error): void {
    if (this.#closed || this.#state !== 'synced') return;
    for (const { controller } of this.#streams) controller.abort();
    this.#streams.clear();
    this.#stream = undefined;
    this.#silentSinceStream = true;
    this.#setState('disconnected', error);
    this.#onLost();
  }

  #setState(state: DirectoryState, error?: Error): void {
    this.#state = state;
    this.#report(error);
  }

  #report(error?: Error): void {
    const { registry, events } = this.#options;
    this.#problem = error;
    const count = [...registry.started()].length;
    events.directoryStateChanged(this.#state, error ? { count, error } : { count });
  }
}
