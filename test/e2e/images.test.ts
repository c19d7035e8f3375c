// The image, and the files with which a scheduler runs it, on the lab's Docker.
import { strict as assert } from 'node:assert';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve as resolvePath } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { METADATA, ask, roleName } from './metadata-requests.ts';
import { INSTANCE_ID } from './host-identity.ts';
import { Lab } from './lab.ts';
import { execute } from './machine.ts';
import { MOTO_PORT, STS_FRONT_PORT } from './ports.ts';

const IMAGE = 'metadataproxy:lab';
const FILES = resolvePath('packaging/image');

/** The lab's STS and account. The source credentials are the instance's. */
const SETTINGS = {
  DEFAULT_ACCOUNT_ID: '123456789012',
  AWS_ENDPOINT_URL_STS: `http://127.0.0.1:${STS_FRONT_PORT}`,
};

const lab = await Lab.create();

describe('the image', { timeout: 300_000 }, () => {
  let environment: Record<string, string | undefined>;
  const tool = async (program: string, args: string[], more: Readonly<Record<string, string>> = {}): Promise<string> => {
    const { status, stdout, stderr } = await execute(program, args, { ...environment, ...more });
    assert.equal(status, 0, `${program} ${args.join(' ')} (${status}): ${stderr}${stdout}`);
    return stdout;
  };
  const settingFlags = Object.entries(SETTINGS).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
  const inspect = (container: string, format: string): Promise<string> =>
    lab.docker.docker('inspect', '--format', format, container);

  /** Resolves when Docker reports a container of the image as healthy. */
  const healthy = async (container: string): Promise<void> => {
    // There is no event for it; Docker runs the check every few seconds.
    for (let tries = 0; tries < 120; tries += 1) {
      if (await inspect(container, '{{.State.Health.Status}}') === 'healthy') return;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    assert.fail(await inspect(container, '{{json .State}}') + await lab.docker.docker('logs', container));
  };

  /** Resolves when the proxy on the host is ready. */
  const ready = (): Promise<string> => lab.host.run(['timeout', '30', '/bin/sh', '-c',
    'until curl --silent --fail http://127.0.0.1:18001/readyz >/dev/null; do sleep 0.1; done']);

  const guestGetsItsRole = async (): Promise<void> => {
    await ready();
    const guest = await lab.docker.startIdle('guest', { IAM_ROLE: 'app' });
    assert.equal(await roleName(guest), 'app');
    assert.match(await ask(guest, `${METADATA}/iam/security-credentials/app`), /"Success"/);
    assert.equal(await ask(guest, `${METADATA}/instance-id`), INSTANCE_ID);
    await guest.remove();
  };

  before(async () => {
    environment = {
      PATH: process.env['PATH'], HOME: '/root', DOCKER_HOST: `unix://${lab.docker.socket}`,
      DOCKER_GID: String(statSync(lab.docker.socket).gid), METADATAPROXY_IMAGE: IMAGE, DEFAULT_ACCOUNT_ID: SETTINGS.DEFAULT_ACCOUNT_ID,
    };
    // The lab can pull nothing, so the image is built from this machine's node with its libraries, and a busybox.
    await lab.docker.makeImage('lab/node', [], { files: { '/usr/local/bin/node': process.execPath } });
    const { stdout } = await execute('ldd', [process.execPath]);
    const libraries = [...stdout.matchAll(/(\/\S+)(?= \()/g)].map(([, path = '']) => [path, path]);
    await lab.docker.makeImage('lab/base', [], { files: Object.fromEntries(libraries) as Record<string, string> });
    await tool('make', ['--no-print-directory', 'image', `IMAGE=${IMAGE}`, 'NODE_IMAGE=lab/node', 'BASE_IMAGE=lab/base']);
  });
  after(() => lab.remove());

  test('with the docker run of the older READMEs a container gets its role, and Docker reports the image healthy', async () => {
    await lab.docker.docker('run', '--detach', '--name', 'proxy', '--net=host', '--volume',
      `${lab.docker.socket}:/var/run/docker.sock`, '--health-interval=1s', ...settingFlags, IMAGE);
    await guestGetsItsRole();
    await healthy('proxy');
    assert.match(await lab.docker.docker('exec', 'proxy', 'metadataproxy', 'check', '--health'), /alive/);
  });

  test('the health check fails when the proxy does not answer', async () => {
    const { status, stdout } = await lab.docker.tryDocker('exec', '--env', 'ADMIN_ADDR=127.0.0.1:1', 'proxy',
      'metadataproxy', 'check', '--health');
    assert.equal(status, 1);
    assert.match(stdout, /not alive/);
  });

  test('docker stop ends it with exit code 0 within Docker\'s timeout', async () => {
    await lab.docker.docker('stop', 'proxy');
    assert.equal(await inspect('proxy', '{{.State.ExitCode}}'), '0');
    await lab.docker.docker('rm', 'proxy');
  });

  test('compose.yaml runs it as a separate user without capabilities, and a container gets its role', async () => {
    const compose = ['--project-name', 'lab', '--file', join(FILES, 'compose.yaml'), '--file', overrides()];
    await tool('docker-compose', [...compose, 'up', '--detach']);
    const [id = ''] = (await tool('docker-compose', [...compose, 'ps', '--quiet'])).trim().split('\n');
    await guestGetsItsRole();
    const pid = await inspect(id, '{{.State.Pid}}');
    const status = await lab.host.run(['cat', `/proc/${pid}/status`]);
    assert.match(status, new RegExp(`^Uid:(\\t16925){4}\\nGid:(\\t${environment['DOCKER_GID']}){4}$`, 'm'));
    assert.match(status, /^CapBnd:\t0+$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.equal(await inspect(id, '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.RestartPolicy.Name}}'), 'true always');
    await tool('docker-compose', [...compose, 'down']);
  });

  test('swarm.yaml runs one on each host, and a container gets its role', async () => {
    await lab.docker.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
    const swarm = readFileSync(join(FILES, 'swarm.yaml'), 'utf8');
    assert.match(swarm, /mode: global/);
    await tool('docker', ['stack', 'deploy', '--resolve-image', 'never', '--compose-file', join(FILES, 'swarm.yaml'),
      '--compose-file', overrides('version: "3.8"\n'), 'lab']);
    await guestGetsItsRole();
    const [id = ''] = (await lab.docker.docker('ps', '--quiet', '--filter', 'name=lab_metadataproxy')).split('\n');
    await healthy(id);
    const services = await lab.docker.docker('service', 'ls', '--format', '{{.Name}} {{.Mode}} {{.Replicas}}');
    assert.match(services, /^lab_metadataproxy global [01]\/1$/);
    await lab.docker.docker('stack', 'rm', 'lab');
    await lab.docker.docker('swarm', 'leave', '--force');
  });

  test('ECS accepts the task definition', async () => {
    const definition = `file://${join(FILES, 'ecs-task-definition.json')}`;
    const keys = { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x', AWS_DEFAULT_REGION: 'us-east-1' };
    // The AWS CLI validates the shape against ECS's model, moto the content.
    const registered = await lab.host.run(['env', ...Object.entries(keys).map(([name, value]) => `${name}=${value}`),
      '/usr/bin/aws', '--endpoint-url', `http://127.0.0.1:${MOTO_PORT}`, 'ecs', 'register-task-definition',
      '--cli-input-json', definition]);
    const { taskDefinition } = JSON.parse(registered) as { readonly taskDefinition: { readonly networkMode: string } };
    assert.equal(taskDefinition.networkMode, 'host');
  });

  /** The lab's differences: Docker's socket, the STS endpoint and the check interval. */
  function overrides(head = ''): string {
    // Root of this machine cannot lower its oom_score_adj, and a stack does not support the key.
    const killable = head === '' ? '    oom_score_adj: 0\n' : '';
    const path = resolvePath(`build/e2e/compose-${head === '' ? 'plain' : 'swarm'}.yaml`);
    writeFileSync(path, `${head}services:
  metadataproxy:
    environment:
      DOCKER_URL: unix:///lab/docker.sock
      AWS_ENDPOINT_URL_STS: ${SETTINGS.AWS_ENDPOINT_URL_STS}
    volumes:
      - ${lab.docker.socket}:/lab/docker.sock
    healthcheck:
      interval: 1s
${killable}`);
    return path;
  }
});
