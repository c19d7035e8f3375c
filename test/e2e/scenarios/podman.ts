import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { AWS_CLI, ECS_ENDPOINT, ROLE_NAMES, credentials, get, refusal, roleName } from '../metadata-requests.ts';
import type { Container } from '../container.ts';
import { ACCOUNT, type Lab, STS_FOR_CONTAINERS } from '../lab.ts';
import { ADMIN_PORT } from '../ports.ts';
import { STATIC_KEYS } from '../proxy.ts';

/** Rootful Podman containers on Podman's networks, with its Docker-compatible socket. */
export function podman(lab: Lab): void {
  const { podman: engine } = lab;

  before(async () => {
    await engine.start();
    await lab.startProxy({ ...STATIC_KEYS, DOCKER_URL: `unix://${engine.socket}` });
  });
  after(() => lab.startProxy());

  test('the AWS CLI in a rootful Podman container gets the container\'s role', async () => {
    const { status, stdout, stderr } = await engine.run([
      '--name=podman-cli', ...HOST_PROGRAMS, '--env=HOME=/tmp', '--env=AWS_REGION=us-east-1', '--env=IAM_ROLE=app',
    ], [...AWS_CLI, '--endpoint-url', STS_FOR_CONTAINERS, '--output', 'text', '--query', 'Arn',
      'sts', 'get-caller-identity']);
    const id = await engine.docker('ps', '--all', '--no-trunc', '--quiet', '--filter=name=podman-cli');
    await engine.docker('rm', 'podman-cli');
    assert.equal(status, 0, stderr);
    assert.equal(stdout.trim(), `arn:aws:sts::${ACCOUNT}:assumed-role/app/podman-cli-${id.slice(0, 12)}`);
  });

  test('the first instruction of a Podman container gets its role', async () => {
    for (let n = 1; n <= 10; n += 1) {
      const role = n % 2 === 0 ? 'app' : 'worker';
      const { stdout, stderr } = await engine.run(['--rm', `--env=IAM_ROLE=${role}`], firstInstruction(ROLE_NAMES));
      assert.equal(stdout, role, `the ${n}th: ${stderr}`);
    }
  });

  test('a Podman container without a role gets 404 for credentials', async () => {
    const container = await engine.startIdle('podman-no-role', {});
    assert.equal(await refusal(container, ROLE_NAMES), '404');
    await container.remove();
  });

  test('a reused Podman address never keeps the previous container\'s role', async () => {
    const roles: string[] = [];
    const expected = ['app', 'worker', '', 'app', 'worker', '', 'app', 'worker'];
    for (const role of expected) {
      const { status, stdout } = await engine.run(
        ['--rm', '--ip=10.88.7.7', ...(role === '' ? [] : [`--env=IAM_ROLE=${role}`])], firstInstruction(ECS_ENDPOINT),
      );
      roles.push(/:role\/(\w+)"/.exec(stdout)?.[1] ?? (status === 0 ? stdout : ''));
    }
    assert.deepEqual(roles, expected);
  });

  test('a stopped, killed or removed Podman container is dropped', async () => {
    const end: Record<string, (container: Container) => Promise<unknown>> = {
      stopped: ({ name }) => engine.docker('stop', '--time=0', name),
      killed: ({ name }) => engine.docker('kill', name),
      removed: ({ name }) => engine.docker('rm', '--force', '--time=0', name),
    };
    const containers: Container[] = [];
    for (const name of Object.keys(end)) containers.push(await engine.startIdle(`podman-${name}`, { IAM_ROLE: 'app' }));
    for (const container of containers) assert.equal(await roleName(container), 'app');
    for (const [n, finish] of Object.values(end).entries()) await finish(containers[n] as Container);
    await runningAre(lab, containers.map(({ name }) => name), []);
    await engine.docker('rm', 'podman-stopped', 'podman-killed');
  });

  test('a Podman container keeps its role after a rename and a restart', async () => {
    const container = await engine.startIdle('podman-named', { IAM_ROLE: 'worker' });
    await engine.docker('rename', container.name, 'podman-renamed');
    await engine.docker('restart', '--time=0', 'podman-renamed');
    assert.equal(await roleName(container), 'worker');
    await runningAre(lab, ['podman-named', 'podman-renamed'], ['podman-renamed']);
    await container.remove();
  });

  test('a Podman container keeps its role at an address from `podman network connect`', async () => {
    await engine.docker('network', 'create', 'later');
    const container = await engine.startIdle('podman-connected', { IAM_ROLE: 'worker' });
    assert.equal(await roleName(container), 'worker');
    await engine.docker('network', 'connect', 'later', container.name);
    await engine.docker('network', 'disconnect', 'podman', container.name);
    assert.equal(await roleName(container), 'worker');
    await container.remove();
    await engine.docker('network', 'rm', 'later');
  });

  test('an address does not keep its role after `podman network disconnect`', async () => {
    const moved = await engine.startIdle('podman-moved', { IAM_ROLE: 'worker' }, '--ip=10.88.7.8');
    assert.equal(await roleName(moved), 'worker');
    await engine.docker('network', 'disconnect', 'podman', moved.name);
    const { stdout } = await engine.run(['--rm', '--ip=10.88.7.8'], firstInstruction(ROLE_NAMES));
    assert.equal(stdout, '');
    await moved.remove();
  });

  test('a Podman network peer (--network container:X) has X\'s role', async () => {
    const owner = await engine.startIdle('podman-owner', { IAM_ROLE: 'worker' });
    const guest = await engine.startIdle('podman-guest', { IAM_ROLE: 'app' }, `--network=container:${owner.name}`);
    assert.deepEqual([await roleName(guest), await roleName(owner)], ['worker', 'worker']);
    await lab.startProxy({ ...STATIC_KEYS, DOCKER_URL: `unix://${engine.socket}` });
    assert.deepEqual([await roleName(guest), await roleName(owner)], ['worker', 'worker'], 'after a restart of the proxy');
    await guest.remove();
    assert.equal(await roleName(owner), 'worker', 'after the guest left');
    await owner.remove();
  });

  for (const [what, settings] of [['no role', {}], ['the default role', { DEFAULT_ROLE: 'fallback' }]] as const) {
    test(`in a Podman pod with ${what} the first instruction of each container gets its own role`, async () => {
      await lab.startProxy({ ...STATIC_KEYS, DOCKER_URL: `unix://${engine.socket}`, ...settings });
      await engine.docker('pod', 'create', '--infra-image=lab/busybox', '--infra-command=sleep 3600', 'a-pod');
      for (let n = 1; n <= 10; n += 1) {
        const role = n % 2 === 0 ? 'app' : 'worker';
        const options = ['--rm', '--pod=a-pod', `--env=IAM_ROLE=${role}`];
        const { stdout, stderr } = await engine.run(options, firstInstruction(ROLE_NAMES));
        assert.equal(stdout, role, `the ${n}th: ${stderr}`);
      }
      await engine.docker('pod', 'rm', '--force', '--time=0', 'a-pod');
    });
  }

  test('a Podman container that starts while the service is down never gets an older container\'s role', async () => {
    const ip = '--ip=10.88.7.9';
    const first = await engine.startIdle('podman-before', { IAM_ROLE: 'app' }, ip);
    assert.equal(await roleName(first), 'app');
    await engine.stopService();
    await engine.docker('rm', '--force', '--time=0', first.name);
    const second = await engine.startIdle('podman-after', { IAM_ROLE: 'worker' }, ip);
    assert.equal(await refusal(second, ROLE_NAMES), '503');
    const mark = lab.proxy.log.length;
    await engine.startService();
    await lab.proxy.knowsContainers(mark);
    assert.match((await credentials(second)).RoleArn, /:role\/worker$/);
    await second.remove();
  });
}

const HOST_PROGRAMS = ['/usr', '/lib', '/lib64', '/etc/ssl'].map((path) => `--volume=${path}:${path}:ro`);

/** The first request of a container, with an SDK's timeout. */
function firstInstruction(url: string): string[] {
  return get(url).map((word, n) => (n === 1 ? '2' : word));
}

/** Waits until /status shows, of the containers with these names, only the expected ones as running. */
async function runningAre(lab: Lab, names: string[], expected: string[]): Promise<void> {
  const list = async (): Promise<string[]> => {
    const status = JSON.parse(await lab.host.run(['curl', '--silent', `http://127.0.0.1:${ADMIN_PORT}/status`])) as {
      containers: { name: string }[];
    };
    return status.containers.map(({ name }) => name).filter((name) => names.includes(name));
  };
  let running = await list();
  // Podman's events may be a quarter of a second late, and their arrival is not observable.
  for (let attempts = 0; attempts < 20 && running.join() !== expected.join(); attempts += 1) {
    await pause(100);
    running = await list();
  }
  assert.deepEqual(running, expected);
}
