/**
 * The log: one line per message, as text, JSON or GELF. Lines are written at the end of the current turn of the event
 * loop. In a burst, lines below warning are buffered for up to 10 ms, because a write costs as much as a response.
 * `flush` writes the buffer at exit.
 */

import { printableJson } from '../util/printable.ts';

/** The names of logrus, from most to least verbose. The proxy logs nothing as fatal or panic: these two silence the log. */
export const LOG_LEVELS = ['debug', 'info', 'warning', 'error', 'fatal', 'panic'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
type UsedLevel = 'debug' | 'info' | 'warning' | 'error';
export const LOG_FORMATS = ['text', 'json', 'gelf'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** Undefined fields are omitted. */
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LogOptions {
  level: LogLevel;
  format: LogFormat;
  /** Colours text lines, for a terminal. */
  colour?: boolean;
  /** The host's name, for GELF. */
  host: string;
  /** Receives whole lines. */
  write: (lines: string) => void;
  now: () => number;
}

/** @param stamp the time as ISO 8601 */
type LineFormat = (time: number, stamp: string, level: UsedLevel, message: string, fields: Fields) => string;

/** Between two writes of a burst. A SIGKILL loses at most this much of the log. */
const WRITE_INTERVAL_MS = 10;
/** The buffer lies outside V8's heap, where 100 kB of lines would burden the garbage collector. */
const BUFFER_LENGTH = 64 * 1024;
/** UTF-8 needs at most 3 bytes per UTF-16 code unit. */
const MAX_BYTES_PER_UNIT = 3;

export class Log {
  readonly #format: LineFormat;
  readonly #write: (lines: string) => void;
  readonly #now: () => number;
  readonly #stamps = new Stamps();
  readonly #configuredLevel: LogLevel;
  #threshold: number;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_LENGTH);
  #buffered = 0;
  /** Whether a flush at the end of this turn is scheduled. */
  #flushScheduled = false;
  #lastWrite = -Infinity;

  constructor({ level, format, colour = false, host, write, now }: LogOptions) {
    this.#format = { text: colour ? colouredLine : textLine, json: jsonLine, gelf: gelfLine(host) }[format];
    this.#write = write;
    this.#now = now;
    this.#configuredLevel = level;
    this.#threshold = LOG_LEVELS.indexOf(level);
  }

  /** Lets callers skip building fields that are not logged. */
  writes(level: UsedLevel): boolean {
    return RANK[level] >= this.#threshold;
  }

  /** The current level; `toggleDebug` changes it. */
  get level(): LogLevel {
    return LOG_LEVELS[this.#threshold] ?? this.#configuredLevel;
  }

  /** Switches between the configured level and debug, or between debug and info if debug is configured. */
  toggleDebug(): void {
    if (!this.writes('debug')) {
      this.#threshold = RANK.debug;
      this.info('debug logging enabled', { level: this.level });
      return;
    }
    const level = this.#configuredLevel === 'debug' ? 'info' : this.#configuredLevel;
    this.info('debug logging disabled', { level });
    this.#threshold = LOG_LEVELS.indexOf(level);
  }

  debug(message: string, fields: Fields = NO_FIELDS): void {
    this.#add('debug', message, fields);
  }

  info(message: string, fields: Fields = NO_FIELDS): void {
    this.#add('info', message, fields);
  }

  warning(message: string, fields: Fields = NO_FIELDS): void {
    this.#add('warning', message, fields);
  }

  error(message: string, fields: Fields = NO_FIELDS): void {
    this.#add('error', message, fields);
  }

  /** Writes the buffer. */
  flush(): void {
    this.#flushScheduled = false;
    if (this.#buffered === 0) return;
    const lines = this.#buffer.toString('utf8', 0, this.#buffered);
    this.#buffered = 0;
    this.#lastWrite = this.#now();
    this.#write(lines);
  }

  #add(level: UsedLevel, message: string, fields: Fields): void {
    if (RANK[level] < this.#threshold) return;
    const time = this.#now();
    this.#scheduleFlush(level, time - this.#lastWrite);
    this.#append(this.#format(time, this.#stamps.of(time), level, message, fields));
  }

  #append(line: string): void {
    const maxBytes = line.length * MAX_BYTES_PER_UNIT;
    if (maxBytes > BUFFER_LENGTH - this.#buffered) this.flush();
    if (maxBytes > BUFFER_LENGTH) this.#write(line);
    else this.#buffered += this.#buffer.write(line, this.#buffered);
  }

  /** @param elapsed milliseconds since the last write; negative if the clock was set back */
  #scheduleFlush(level: UsedLevel, elapsed: number): void {
    if (RANK[level] >= RANK.warning || elapsed >= WRITE_INTERVAL_MS) {
      if (!this.#flushScheduled) setImmediate(this.#flush);
      this.#flushScheduled = true;
    } else if (this.#buffered === 0) setTimeout(this.#flush, WRITE_INTERVAL_MS - Math.max(elapsed, 0));
  }

  readonly #flush = (): void => this.flush();
}

const NO_FIELDS: Fields = Object.freeze({});
const RANK = { debug: 0, info: 1, warning: 2, error: 3 } as const;

/** Formats times like `Date.toISOString`; all but the milliseconds is cached for a second. */
class Stamps {
  #second = NaN;
  #prefix = '';

  /** @param time milliseconds since the epoch */
  of(time: number): string {
    const second = Math.floor(time / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#prefix = new Date(second * 1000).toISOString().slice(0, -4);
    }
    const milliseconds = Math.floor(time) - second * 1000;
    return `${this.#prefix}${milliseconds < 10 ? '00' : milliseconds < 100 ? '0' : ''}${milliseconds}Z`;
  }
}

/** Longer than a stack of ten calls. Containers choose names, labels and paths. */
const MAX_VALUE_LENGTH = 4_096;

function limited(text: string): string {
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
}

/** Text that needs neither JSON escapes nor escapes for a terminal. */
const PLAIN_JSON = /^[ !#-[\]-~]*$/;

/** Most text needs quotes only; testing for that is faster than escaping. */
function quote(text: string): string {
  return PLAIN_JSON.test(text) ? `"${text}"` : printableJson(text);
}

function jsonValue(value: string | number | boolean): string {
  if (typeof value === 'string') return quote(limited(value));
  return typeof value === 'number' && !Number.isFinite(value) ? 'null' : String(value);
}

/** Equals `JSON.stringify`. Field names are the program's own and need no escapes. */
function jsonLine(_time: number, stamp: string, level: UsedLevel, message: string, fields: Fields): string {
  let line = `{"time":"${stamp}","level":"${level}","msg":${quote(message)}`;
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) line += `,"${name}":${jsonValue(value)}`;
  }
  return `${line}}\n`;
}

/** GELF uses the severities of syslog. */
const SYSLOG_LEVEL = { debug: 7, info: 6, warning: 4, error: 3 } as const;

/** GELF 1.1. Source: the GELF payload specification of Graylog. */
function gelfLine(host: string): LineFormat {
  const begin = `{"version":"1.1","host":${quote(host)},"short_message":`;
  return (time, _stamp, level, message, fields) => {
    let line = `${begin}${quote(message)},"timestamp":${time / 1000},"level":${SYSLOG_LEVEL[level]}`;
    line += `,"_level_name":"${level}","_pid":${process.pid}`;
    for (const name in fields) {
      const value = fields[name];
      if (value === undefined) continue;
      // GELF allows only numbers and strings.
      line += `,"_${name}":${jsonValue(typeof value === 'boolean' ? String(value) : value)}`;
    }
    return `${line}}\n`;
  };
}

/** Of one width, which aligns the messages. */
const TEXT_LEVEL = { debug: 'DEBUG', info: 'INFO ', warning: 'WARN ', error: 'ERROR' } as const;
const PLAIN_VALUE = /^[\w.:/@+,~*-]+$/;

function textLine(_time: number, stamp: string, level: UsedLevel, message: string, fields: Fields): string {
  let line = `${stamp} ${TEXT_LEVEL[level]} ${message}`;
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) line += ` ${name}=${textValue(value)}`;
  }
  return `${line}\n`;
}

/** Quoted, so that a container's name or request cannot forge a log line. */
function textValue(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value);
  const text = limited(value);
  return PLAIN_VALUE.test(text) ? text : quote(text);
}

/** Source: ECMA-48, SGR. Colours of the terminal's palette, which its user has made readable. */
const RESET = '\u001b[0m';
const DIM = '\u001b[2m';
const COLOUR = { debug: '\u001b[36m', info: '\u001b[32m', warning: '\u001b[33m', error: '\u001b[31m' } as const;

function colouredLine(_time: number, stamp: string, level: UsedLevel, message: string, fields: Fields): string {
  let line = `${DIM}${stamp}${RESET} ${COLOUR[level]}${TEXT_LEVEL[level]}${RESET} ${message}`;
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) line += ` ${DIM}${name}=${RESET}${textValue(value)}`;
  }
  return `${line}\n`;
}
