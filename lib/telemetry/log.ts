/**
 * One line an event, as text or JSON. Lines are gathered and written once a turn of the event loop, so that a burst of
 * requests costs one write; `flush` writes what is left at exit.
 */

export const LOG_LEVELS = ['debug', 'info', 'warning', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What an event is about. A field that is undefined is left out. */
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LogOptions {
  level: LogLevel;
  format: LogFormat;
  /** Takes whole lines. */
  write: (lines: string) => void;
  now: () => number;
}

export class Log {
  readonly #format: (time: number, level: LogLevel, message: string, fields: Fields) => string;
  readonly #write: (lines: string) => void;
  readonly #now: () => number;
  #threshold: number;
  #lines = '';

  constructor({ level, format, write, now }: LogOptions) {
    this.#format = format === 'json' ? jsonLine : textLine;
    this.#write = write;
    this.#now = now;
    this.#threshold = LOG_LEVELS.indexOf(level);
  }

  /** Lets a caller skip the making of fields that nobody will read. */
  get isDebug(): boolean {
    return this.#threshold === 0;
  }

  debug(message: string, fields: Fields = {}): void {
    this.#add('debug', message, fields);
  }

  info(message: string, fields: Fields = {}): void {
    this.#add('info', message, fields);
  }

  warning(message: string, fields: Fields = {}): void {
    this.#add('warning', message, fields);
  }

  error(message: string, fields: Fields = {}): void {
    this.#add('error', message, fields);
  }

  /** Writes everything that is still held back. */
  flush(): void {
    if (this.#lines === '') return;
    const lines = this.#lines;
    this.#lines = '';
    this.#write(lines);
  }

  #add(level: LogLevel, message: string, fields: Fields): void {
    if (LOG_LEVELS.indexOf(level) < this.#threshold) return;
    if (this.#lines === '') setImmediate(() => this.flush());
    this.#lines += this.#format(this.#now(), level, message, fields);
  }
}

function jsonLine(time: number, level: LogLevel, message: string, fields: Fields): string {
  return `${JSON.stringify({ time: new Date(time).toISOString(), level, msg: message, ...fields })}\n`;
}

/** The levels in capitals and of one width, so that messages stand under each other. */
const TEXT_LEVEL = { debug: 'DEBUG', info: 'INFO ', warning: 'WARN ', error: 'ERROR' } as const;
const PLAIN_VALUE = /^[\w.:/@+,~*-]+$/;

function textLine(time: number, level: LogLevel, message: string, fields: Fields): string {
  let line = `${new Date(time).toISOString()} ${TEXT_LEVEL[level]} ${message}`;
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = String(value);
    // Quoting keeps what a container was named or asked for from forging a line of its own.
    line += ` ${name}=${PLAIN_VALUE.test(text) ? text : JSON.stringify(text)}`;
  }
  return `${line}\n`;
}
