/** Files that settings name: read at start, and reloaded on SIGHUP or when they change. */

import { readFileSync, unwatchFile, watchFile } from 'node:fs';
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
  /** Called with each new valid content, but not with the first one. */
  onChange: (now: T, before: T) => void;
  /** Called if a reload fails; the previous content stays in force. */
  onBroken: (error: Error) => void;
}

/** Polling costs one system call, and also notices files that were replaced or are on a network file system. */
const POLL_INTERVAL_MS = 2_000;

/** A file that is reloaded when it changes. */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #poll = (): void => this.reload();
  #text = '';
  #value: T;

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
    watchFile(path, { interval: POLL_INTERVAL_MS, persistent: false }, this.#poll);
  }

  get value(): T {
    return this.#value;
  }

  reload(): void {
    const { path, parse, onChange, onBroken } = this.#options;
    const before = this.#value;
    try {
      const text = readFileSync(path, 'utf8');
      if (text === this.#text) return;
      this.#value = parse(text);
      this.#text = text;
    } catch (error) {
      onBroken(error as Error);
      return;
    }
    onChange(this.#value, before);
  }

  close(): void {
    unwatchFile(this.#options.path, this.#poll);
  }
}
