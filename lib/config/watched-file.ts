/** Files that settings name: read at start, and reloaded on SIGHUP or when they change. */

import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import type { Events } from '../events.ts';
import { ConfigError } from './config.ts';

/**
 * @param setting the setting's name, for the error
 * @param parse throws an Error if the content is invalid
 * @returns undefined if the setting is not set
 * @throws ConfigError
 */
export function readSettingFile<T>(setting: string, path: string | undefined, parse: (text: string) => T): T | undefined {
  if (path === undefined) return undefined;
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ConfigError([`${setting}: ${path}: ${(error as Error).message}`]);
  }
}

export interface WatchedFileOptions<T> {
  setting: string;
  path: string;
  parse: (text: string) => T;
  events: Pick<Events, 'fileReloaded' | 'fileReloadFailed'>;
}

/** Polling costs one system call, and also notices files that were replaced or are on a network file system. */
const POLL_INTERVAL_MS = 2_000;

/** A file that is read when this is constructed, and reloaded when it changes once it is followed. */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #poll = (): void => this.reload();
  #text = '';
  #value: T;
  #onChange: (now: T, before: T) => void = () => {};

  /** @throws ConfigError */
  constructor(options: WatchedFileOptions<T>) {
    this.#options = options;
    const { setting, path } = options;
    const value = readSettingFile(setting, path, (text) => {
      this.#text = text;
      return options.parse(text);
    });
    // Undefined only without a path.
    this.#value = value as T;
  }

  get value(): T {
    return this.#value;
  }

  /** @param onChange called with each new valid content */
  follow(onChange: (now: T, before: T) => void): void {
    this.#onChange = onChange;
    watchFile(this.#options.path, { interval: POLL_INTERVAL_MS, persistent: false }, this.#poll);
    // It may have changed since it was read.
    this.reload();
  }

  reload(): void {
    const { setting, path, parse, events } = this.#options;
    const before = this.#value;
    try {
      const text = readFileSync(path, 'utf8');
      if (text === this.#text) return;
      this.#value = parse(text);
      this.#text = text;
    } catch (error) {
      events.fileReloadFailed(setting, path, error as Error);
      return;
    }
    events.fileReloaded(setting, path);
    this.#onChange(this.#value, before);
  }

  close(): void {
    unwatchFile(this.#options.path, this.#poll);
  }
}
