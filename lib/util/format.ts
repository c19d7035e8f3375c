/** Formats numbers and durations for the status page and the terminal. */

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

/** `1,234` */
export function formatInteger(value: number): string {
  return value.toLocaleString('en');
}

/** A latency with about two significant digits: `0.12 ms`, `3.4 ms`, `1.2 s`. */
export function latency(seconds: number | null): string {
  if (seconds === null) return '–';
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  const milliseconds = seconds * 1000;
  return `${milliseconds.toFixed(milliseconds >= 10 ? 0 : milliseconds >= 1 ? 1 : 2)} ms`;
}

/** The two largest units: `3 d 4 h`, `12 min`, `40 s`. */
export function duration(seconds: number): string {
  const whole = Math.max(Math.floor(seconds), 0);
  if (whole < MINUTE_S) return `${whole} s`;
  if (whole < HOUR_S) return `${Math.floor(whole / MINUTE_S)} min`;
  const [big, small, bigUnit, smallUnit] =
    whole < DAY_S
      ? [Math.floor(whole / HOUR_S), Math.floor((whole % HOUR_S) / MINUTE_S), 'h', 'min']
      : [Math.floor(whole / DAY_S), Math.floor((whole % DAY_S) / HOUR_S), 'd', 'h'];
  return small === 0 ? `${big} ${bigUnit}` : `${big} ${bigUnit} ${small} ${smallUnit}`;
}

/** The time between two ISO 8601 times: `3 h 4 min ago`. */
export function ago(time: string, now: string): string {
  const seconds = (Date.parse(now) - Date.parse(time)) / 1000;
  return seconds < 1 ? 'just now' : `${duration(seconds)} ago`;
}

/** The time from `now` until `time`, as a countdown: `1:02:03`, `42:10`, `expired`. */
export function timeLeft(time: string, now: string): string {
  const seconds = Math.floor((Date.parse(time) - Date.parse(now)) / 1000);
  if (seconds <= 0) return 'expired';
  const two = (value: number): string => String(value).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / HOUR_S), Math.floor(seconds / MINUTE_S) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
