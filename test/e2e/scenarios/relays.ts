import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { ECS_ENDPOINT, credentials, refusal, roleName } from '../metadata-requests.ts';
import type { Lab } from '../lab.ts';
import { ADMIN_PORT } from '../ports.ts';
import type { RelayCalls } from '../programs/relay.ts';
import { STATIC_KEYS } from '../proxy.ts';
import type { SideProgram } from '../side-program.ts';

/** An engine behind a relay, over TCP, which loses events or answers nothing. */
export function relays(lab: Lab): void {
  let relay: SideProgram<RelayCalls>;
  let behindRelay: Record<string, string>;

  before(async () => {
    relay = await lab.startProgram<RelayCalls>('relay', lab.host.network);
    const port = await relay.call('listen', lab.docker.socket);
    behindRelay = { ...STATIC_KEYS, DOCKER_URL: `tcp://127.0.0.1:${port}`, DOCKER_CONFIRM: 'auto' };
    await lab.startProxy(behindRelay);
  });
  after(async () => {
    relay.end();
    await lab.startProxy();
  });

  test('an address that is used again while the relay loses events never brings the first container\'s credentials', async () => {
    const first = await lab.docker.startIdle('relayed-first', { IAM_ROLE: 'app' });
    assert.equal(await roleName(first), 'app');
    const address = await first.address();
    await relay.call('loseEvents', true);
    await first.remove();
    const second = await lab.docker.startIdle('relayed-second', { IAM_ROLE: 'worker' });
    assert.equal(await second.address(), address, 'the second container has the first one\'s address');
    for (let round = 0; round < 3; round += 1) {
      assert.match((await credentials(second)).RoleArn, /:role\/worker$/);
    }
    await second.remove();
    const third = await lab.docker.startIdle('relayed-third', {});
    assert.equal(await third.address(), address);
    assert.equal(await refusal(third, ECS_ENDPOINT), '404');
    await third.remove();
    await relay.call('loseEvents', false);
  });

  test('an event stream that the engine does not end in time makes the proxy not ready, until events come again', async () => {
    // A stream lasts ten seconds longer, and may be ten seconds late.
    await lab.startProxy({ ...behindRelay, DOCKER_SYNC_PERIOD: '1s' });
    await relay.call('loseEvents', true);
    const lost = await lab.proxy.logged(({ state }) => state === 'disconnected', 'that it has lost the engine', 0, 40_000);
    assert.match(String(lost['error']), /event stream/);
    const ready = (): Promise<string> => lab.host.run(['curl', '--silent', `http://127.0.0.1:${ADMIN_PORT}/readyz`]);
    assert.match(await ready(), /disconnected: .*event stream/);
    const mark = lab.proxy.log.length;
    await relay.call('loseEvents', false);
    await lab.proxy.knowsContainers(mark);
    assert.match(await ready(), /synced/);
  });

  test('a relay that is suspended never brings another container\'s credentials', async () => {
    const first = await lab.docker.startIdle('suspended-first', { IAM_ROLE: 'app' });
    assert.equal(await roleName(first), 'app');
    const address = await first.address();
    const pid = await relay.call('pid');
    process.kill(pid, 'SIGSTOP');
    try {
      await first.remove();
      const second = await lab.docker.startIdle('suspended-second', { IAM_ROLE: 'worker' });
      assert.equal(await second.address(), address);
      // 503 after five seconds, which is when the client gives up.
      assert.doesNotMatch(await refusal(second, ECS_ENDPOINT), /answered/);
      process.kill(pid, 'SIGCONT');
      assert.match((await credentials(second)).RoleArn, /:role\/worker$/);
      await second.remove();
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });
}
