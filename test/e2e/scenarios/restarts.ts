import { strict as assert } from 'node:assert';
import { describe, test } from 'node:test';
import { credentials, roleName } from '../metadata-requests.ts';
import type { Container, ContainerSpec } from '../container.ts';
import { IMDS_ADDRESS, type Lab } from '../lab.ts';
import { requestFor } from '../odd-paths.ts';
import type { RawRequestsCalls } from '../programs/raw-requests.ts';

/** Restarts of containers, the proxy and the Docker daemon. */
export function restarts(lab: Lab): void {
  test('a container keeps its role after a rename', async () => {
    const container = await lab.docker.startIdle('named', { IAM_ROLE: 'app' });
    await lab.docker.docker('rename', container.name, 'renamed');
    assert.equal(await roleName(container), 'app');
    await container.remove();
  });

  test('a container keeps its role after a restart', async () => {
    const [app, worker] = await pair(lab);
    await lab.docker.docker('restart', '--time', '0', app.name, worker.name);
    assert.deepEqual([await roleName(app), await roleName(worker)], ['app', 'worker']);
    await Promise.all([app.remove(), worker.remove()]);
  });

  test('a proxy that starts after the containers serves their roles', async () => {
    const [app, worker] = await pair(lab);
    assert.equal(await lab.proxy.stop(), '0');
    await lab.startProxy();
    assert.deepEqual([await roleName(app), await roleName(worker)], ['app', 'worker']);
    await Promise.all([app.remove(), worker.remove()]);
  });

  describe('when the Docker daemon restarts', () => {
    test('containers that restart with it get their own roles', async () => {
      const [app, worker] = await pair(lab, { restartAlways: true });
      const mark = lab.proxy.log.length;
      await lab.docker.stop();
      await lab.docker.start();
      await lab.proxy.knowsContainers(mark);
      assert.deepEqual([await roleName(app), await roleName(worker)], ['app', 'worker']);
      assert.match((await credentials(worker)).RoleArn, /:role\/worker$/);
      await Promise.all([app.remove(), worker.remove()]);
    });

    test('containers that keep running without it (live-restore) keep their roles', async () => {
      await lab.docker.stop();
      await lab.docker.start({ liveRestore: true });
      const [app, worker] = await pair(lab);
      const inside = await lab.startProgram<RawRequestsCalls>('raw-requests', await app.networkNamespace());
      const mark = lab.proxy.log.length;
      await lab.docker.stop();
      const request = requestFor('/latest/meta-data/iam/security-credentials/');
      const [answer = ''] = await inside.call('exchange', IMDS_ADDRESS, 80, [request], 5000);
      assert.match(answer, /^HTTP\/1\.1 200 [^]*\r\n\r\napp$/);
      inside.end();
      await lab.docker.start({ liveRestore: true });
      await lab.proxy.knowsContainers(mark);
      assert.deepEqual([await roleName(app), await roleName(worker)], ['app', 'worker']);
      await Promise.all([app.remove(), worker.remove()]);
      await lab.docker.stop();
      await lab.docker.start();
    });
  });
}

/** Two running containers, with the roles app and worker. */
function pair(lab: Lab, more: ContainerSpec = {}): Promise<[Container, Container]> {
  return Promise.all([
    lab.docker.startIdle('pair-app', { IAM_ROLE: 'app' }, more),
    lab.docker.startIdle('pair-worker', { IAM_ROLE: 'worker' }, more),
  ]);
}
