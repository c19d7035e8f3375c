/**
 * NODE_OPTIONS of a program that collects its garbage on SIGUSR2. An idle process rarely does, and garbage would look like
 * a leak. Nothing else in the program changes.
 *
 * @param report a JavaScript statement that runs after the collection
 */
export function collectsOnSignal(report: string): string {
  const script = `
    import { renameSync, writeFileSync } from 'node:fs';
    import { setFlagsFromString } from 'node:v8';
    import { runInNewContext } from 'node:vm';
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc');
    process.on('SIGUSR2', () => {
      collect();
      collect();
      ${report}
    });`;
  return `--import=data:text/javascript,${encodeURIComponent(script)}`;
}
