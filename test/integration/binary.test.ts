import assert from 'node:assert/strict';
import { spawn, spawnSync, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chmodSync, constants, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { DockerEngine } from '../support/docker-engine.ts';
import { request } from '../support/proxy.ts';
import { Sts } from '../support/sts.ts';
import { accessKeyIn } from './host.ts';

const PROGRAM = 'bin/metadataproxy';

/** Copies only the program to an empty directory. */
function copied(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-'));
  t.after(() => rmSync(directory, { recursive: true }));
  copyFileSync(PROGRAM, join(directory, 'metadataproxy'));
  return directory;
}

test('the program is one executable file of less than 500 kB', () => {
  assert.ok(statSync(PROGRAM).size < 500_000, String(statSync(PROGRAM).size));
  accessSync(PROGRAM, constants.X_OK);
  assert.match(readFileSync(PROGRAM, 'latin1').slice(0, 30), /^#!\/usr\/bin\/env node\n/);
});

test('the program starts in a directory without any other file', (t) => {
  const directory = copied(t);
  const path = `${dirname(process.execPath)}:${process.env['PATH']}`;
  const { status, stdout, stderr } = spawnSync('./metadataproxy', ['--version'], {
    cwd: directory, env: { PATH: path }, encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

const isRoot = process.getuid?.() === 0;

test('the program works for a user without a home directory', { skip: !isRoot && 'only root can be another user' }, async (t) => {
  const directory = copied(t);
  chmodSync(directory, 0o755);
  const docker = await DockerEngine.start({ transport: 'tcp' });
  // This user ID is not in /etc/passwd, and HOME and AWS_CONFIG_FILE are not set.
  const { port } = await started(t, docker, join(directory, 'metadataproxy'), { uid: 54_321, gid: 54_321, cwd: '/' });
  await docker.host.run({ address: '127.0.0.11', env: { IAM_ROLE: 'homeless@123456789012' } });
  const answer = await request({ port, from: '127.0.0.11', path: '/creds' });
  assert.equal(answer.status, 200, answer.body);
});

test('the program serves credentials from a directory without any other file, and writes nothing there', async (t) => {
  const directory = copied(t);
  const docker = await DockerEngine.start();
  const { child, ended, port, sts } = await started(t, docker, 'metadataproxy', { cwd: directory }, {
    AWS_CONFIG_FILE: '/dev/null', AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  });
  // A role name without an account needs both SDK clients, which must be in the file.
  await docker.host.run({ address: '127.0.0.11', env: { IAM_ROLE: 'alone' } });
  const answer = await request({ port, from: '127.0.0.11', path: '/creds' });
  assert.equal(sts.issuedAs(accessKeyIn(answer)).call.roleArn, 'arn:aws:iam::123456789012:role/alone');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  assert.deepEqual(readdirSync(directory), ['metadataproxy']);
});

/** Starts the program with Node. Resolves when it knows the containers. */
async function started(
  t: TestContext, docker: DockerEngine, program: string, how: SpawnOptions, env: Record<string, string> = {},
) {
  const sts = await Sts.start();
  t.after(async () => void await Promise.all([docker.close(), sts.close()]));
  const child = spawn(process.execPath, [program, '--mock', '-s', '127.0.0.1:0'], {
    ...how,
    env: {
      ADMIN_ADDR: 'off', LOG_FORMAT: 'json', DOCKER_URL: docker.url, AWS_EC2_METADATA_DISABLED: 'true',
      AWS_ENDPOINT_URL_STS: sts.url, AWS_ENDPOINT_URL_IAM: sts.url, AWS_ACCESS_KEY_ID: 'AKIABASE',
      AWS_SECRET_ACCESS_KEY: 'x', ...env,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(child, 'close');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  assert.ok(child.stderr);
  let port = 0;
  for await (const line of createInterface({ input: child.stderr })) {
    const { msg, address } = JSON.parse(line) as { msg: string; address?: string };
    if (msg === 'listening') port = Number(address?.split(':')[1]);
    if (msg === 'containers known') break;
  }
  return { child, ended, port, sts };
}
