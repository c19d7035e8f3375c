/**
 * One line an event, as text, JSON or GELF. A line is written at the end of its turn of the event loop, but for those of
 * a burst that tell of no trouble: they are gathered, because a write costs as much as an answer. `flush` writes what is
 * left at exit.
 */

import { printableJson } from '../util/printable.ts';

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
  /** Whether lines of text are coloured, for a terminal. */
  colour?: boolean;
  /** The name of this host. */
  host: string;
  /** Takes whole lines. */
  write: (lines: string) => void;
  now: () => number;
}

/** `stamp` is the time as ISO 8601. */
type LineFormat = (time: number, stamp: string, level: UsedLevel, message: string, fields: Fields) => string;

/** Between two writes of a burst; no more of the log is lost by a kill -9. */
const BETWEEN_WRITES_MS = 10;
/** Lines of a burst lie outside of V8's heap, where a hundred kB of them would keep the collector busy. */
const BUFFER_LENGTH = 64 * 1024;
/** Of a character in UTF-8, at the most, for each unit of UTF-16. */
const BYTES_A_CHARACTER = 3;
/** For a level that lets everything through. */
const EVERYTHING = 0;

export class Log {
  readonly #format: LineFormat;
  readonly #write: (lines: string) => void;
  readonly #now: () => number;
  readonly #stamps = new Stamps();
  readonly #set: LogLevel;
  #threshold: number;
  readonly #gathered = Buffer.allocUnsafeSlow(BUFFER_LENGTH);
  /** How many bytes of it are lines. */
  #length = 0;
  /** Whether they are written at the end of this turn. */
  #isDue = false;
  /** When lines were written last. */
  #written = -Infinity;

  constructor({ level, format, colour = false, host, write, now }: LogOptions) {
    this.#format = { text: colour ? colouredLine : textLine, json: jsonLine, gelf: gelfLine(host) }[format];
    this.#write = write;
    this.#now = now;
    this.#set = level;
    this.#threshold = LOG_LEVELS.indexOf(level);
  }

  /** Lets a caller skip the making of fields that nobody will read. */
  writes(level: UsedLevel): boolean {
    return RANK[level] >= this.#threshold;
  }

  /** As it is now. */
  get level(): LogLevel {
    return LOG_LEVELS[this.#threshold] ?? this.#set;
  }

  /** From whatever is logged to everything and back; where everything is the setting, to `info` and back. */
  toggleDebug(): void {
    if (!this.writes('debug')) {
      this.#threshold = EVERYTHING;
      this.info('everything is logged from now on', { level: this.level });
      return;
    }
    const level = this.#set === 'debug' ? 'info' : this.#set;
    this.info('less is logged from now on', { level });
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

  /** Writes everything that is still held back. */
  flush(): void {
    this.#isDue = false;
    if (this.#length === 0) return;
    const lines = this.#gathered.toString('utf8', 0, this.#length);
    this.#length = 0;
    this.#written = this.#now();
    this.#write(lines);
  }

  #add(level: UsedLevel, message: string, fields: Fields): void {
    if (RANK[level] < this.#threshold) return;
    const time = this.#now();
    this.#plan(level, time - this.#written);
    this.#gather(this.#format(time, this.#stamps.of(time), level, message, fields));
  }

  #gather(line: string): void {
    const most = line.length * BYTES_A_CHARACTER;
    if (most > BUFFER_LENGTH - this.#length) this.flush();
    if (most > BUFFER_LENGTH) this.#write(line);
    else this.#length += this.#gathered.write(line, this.#length);
  }

  /** @param pause milliseconds since the last write; less than 0 when the clock was set back */
  #plan(level: UsedLevel, pause: number): void {
    if (RANK[level] >= RANK.warning || pause >= BETWEEN_WRITES_MS) {
      if (!this.#isDue) setImmediate(this.#flushed);
      this.#isDue = true;
    } else if (this.#length === 0) setTimeout(this.#flushed, BETWEEN_WRITES_MS - Math.max(pause, 0));
  }

  readonly #flushed = (): void => this.flush();
}

const NO_FIELDS: Fields = Object.freeze({});
const RANK = { debug: 0, info: 1, warning: 2, error: 3 } as const;

/** Times as `Date.toISOString` writes them; what is before the milliseconds is made once a second. */
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

/** What JSON needs no escape for, and a terminal shows as it is. */
const PLAIN_JSON = /^[ !#-[\]-~]*$/;

/** JSON of a text; most need no more than quotes, and to see that is faster than to look for escapes. */
function quoted(text: string): string {
  return PLAIN_JSON.test(text) ? `"${text}"` : printableJson(text);
}

function jsonValue(value: string | number | boolean): string {
  if (typeof value === 'string') return quoted(value);
  return typeof value === 'number' && !Number.isFinite(value) ? 'null' : String(value);
}

/** What `JSON.stringify` makes of the same; names of fields are the program's own, and need no escape. */
function jsonLine(_time: number, stamp: string, level: UsedLevel, message: string, fields: Fields): string {
  let line = `{"time":"${stamp}","level":"${level}","msg":${quoted(message)}`;
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) line += `,"${name}":${jsonValue(value)}`;
  }
  return `${line}}\n`;
}

/** GELF counts severity as syslog does. */
const SYSLOG_LEVEL = { debug: 7, info: 6, warning: 4, error: 3 } as const;

/** GELF 1.1. Source: the GELF payload specification of Graylog. */
function gelfLine(host: string): LineFormat {
  const begin = `{"version":"1.1","host":${quoted(host)},"short_message":`;
  return (time, _stamp, level, message, fields) => {
    let line = `${begin}${quoted(message)},"timestamp":${time / 1000},"level":${SYSLOG_LEVEL[level]}`;
    line += `,"_level_name":"${level}","_pid":${process.pid}`;
    for (const name in fields) {
      const value = fields[name];
      if (value === undefined) continue;
      // GELF knows numbers and texts only.
      line += `,"_${name}":${jsonValue(typeof value === 'boolean' ? String(value) : value)}`;
    }
    return `${line}}\n`;
  };
}

/** The levels in capitals and of one width, so that messages stand under each other. */
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

/** Quoting keeps what a container was named or asked for from forging a line of its own. */
function textValue(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value);
  return PLAIN_VALUE.test(value) ? value : quoted(value);
}

/** Source: ECMA-48, SGR. The terminal's own palette, which its user has made readable. */
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
