// moto, an independent STS and IAM.
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { resolve as resolvePath } from 'node:path';
import type { Machine } from './machine.ts';
import { MOTO_PORT } from './ports.ts';

const SERVER = 'build/e2e-venv/bin/moto_server';

/** Starts moto on all addresses of a machine and resolves when it listens. It ends with the test's process. */
export async function startMoto(machine: Machine, logFile: string): Promise<void> {
  const moto = await machine.spawn([resolvePath(SERVER), '-H', '0.0.0.0', '-p', String(MOTO_PORT)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'], AWS_EC2_METADATA_DISABLED: 'true' },
  });
  const { stderr } = moto;
  if (stderr === null) throw new Error('no pipe from moto');
  stderr.pipe(createWriteStream(logFile));
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: stderr }).on('line', (line) => {
      if (line.includes('Running on')) resolve();
    });
    moto.once('exit', (status) => reject(new Error(`moto ended with status ${status}: see ${logFile}`)));
  });
}
