/**
 * One line an event, as text, JSON or GELF. Lines are gathered and written once a turn of the event loop, so that a burst of
 * requests costs one write; `flush` writes what is left at exit.
 */

import { printableJson } from '../printable.ts';

/** As logrus names them, from the most to the least; nothing here is ever fatal or a panic, so these two are silence. */
export const LOG_LEVELS = ['debug', 'info', 'warning', 'error', 'fatal', 'panic'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
type UsedLevel = 'debug' | 'info' | 'warning' | 'error';
export const LOG_FORMATS = ['text', 'json', 'gelf'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What an event is about. A field that is undefined is left out. */
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LogOptions {
  level: LogLevel;
  format: LogFormat;
  /** The name of this host. */
  host: string;
  /** Takes whole lines. */
  write: (lines: string) => void;
  now: () => number;
}

type LineFormat = (time: number, level: UsedLevel, message: string, fields: Fields, host: string) => string;

export class Log {
  readonly #format: LineFormat;
  readonly #host: string;
  readonly #write: (lines: string) => void;
  readonly #now: () => number;
  #threshold: number;
  #lines = '';

  constructor({ level, format, host, write, now }: LogOptions) {
    this.#format = { text: textLine, json: jsonLine, gelf: gelfLine }[format];
    this.#host = host;
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

  #add(level: UsedLevel, message: string, fields: Fields): void {
    if (LOG_LEVELS.indexOf(level) < this.#threshold) return;
    if (this.#lines === '') setImmediate(() => this.flush());
    this.#lines += this.#format(this.#now(), level, message, fields, this.#host);
  }
}

function jsonLine(time: number, level: UsedLevel, message: string, fields: Fields): string {
  return `${printableJson({ time: new Date(time).toISOString(), level, msg: message, ...fields })}\n`;
}

/** GELF counts severity as syslog does. */
const SYSLOG_LEVEL = { debug: 7, info: 6, warning: 4, error: 3 } as const;

/** GELF 1.1. Source: the GELF payload specification of Graylog. */
function gelfLine(time: number, level: UsedLevel, message: string, fields: Fields, host: string): string {
  const line = {
    version: '1.1',
    host,
    short_message: message,
    timestamp: time / 1000,
    level: SYSLOG_LEVEL[level],
    _level_name: level,
    _pid: process.pid,
  };
  // GELF knows numbers and texts only.
  const extras = Object.entries(fields).map(([name, value]) => {
    return [`_${name}`, typeof value === 'boolean' ? String(value) : value];
  });
  return `${printableJson({ ...line, ...Object.fromEntries(extras) })}\n`;
}

/** The levels in capitals and of one width, so that messages stand under each other. */
const TEXT_LEVEL = { debug: 'DEBUG', info: 'INFO ', warning: 'WARN ', error: 'ERROR' } as const;
const PLAIN_VALUE = /^[\w.:/@+,~*-]+$/;

function textLine(time: number, level: UsedLevel, message: string, fields: Fields): string {
  let line = `${new Date(time).toISOString()} ${TEXT_LEVEL[level]} ${message}`;
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = String(value);
    // Quoting keeps what a container was named or asked for from forging a line of its own.
    line += ` ${name}=${PLAIN_VALUE.test(text) ? text : printableJson(text)}`;
  }
  return `${line}\n`;
}
