/** Files that settings name: read at start, and again when asked or when they change. */

import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import { ConfigError } from './config.ts';

/**
 * @param setting the name of the setting that names the file
 * @param parse throws an Error that says what is wrong with the text
 * @returns undefined when the setting is not set
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
  /** Told of each new content that could be read; not of the first. */
  onChange: (now: T, before: T) => void;
  /** Told why a new content is not used; the one before it stays. */
  onBroken: (error: Error) => void;
}

/** Looking at a file costs one system call, and sees a file that was replaced or is on a network as well. */
const POLL_INTERVAL_MS = 2_000;

/** A file that is followed. */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #look = (): void => this.reload();
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
    // There is a path, so there is a value.
    this.#value = value as T;
    watchFile(path, { interval: POLL_INTERVAL_MS, persistent: false }, this.#look);
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
    unwatchFile(this.#options.path, this.#look);
  }
}
