import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
const MB = 1024 * 1024;

/** User and system CPU time of a process, in seconds with a resolution of 10 ms. From /proc/{pid}/stat. */
export function cpuSeconds(pid: number): number {
  const fields = afterName(pid);
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The CPU time in nanoseconds, from the scheduler, for very small amounts. Includes only threads that still run. */
export function scheduledNanoseconds(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
    return sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  }, 0);
}

/** Resident memory, in MB (2^20 bytes). */
export function residentMB(pid: number): number {
  const kB = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kB) * 1024 / MB;
}

/** The fields of /proc/{pid}/stat after the program's name, which may contain spaces. */
function afterName(pid: number): string[] {
  const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return line.slice(line.lastIndexOf(')') + 2).split(' ');
}
