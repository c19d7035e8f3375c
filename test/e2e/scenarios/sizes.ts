import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { roleName } from '../metadata-requests.ts';
import { BUSYBOX } from '../docker-engine.ts';
import type { Lab } from '../lab.ts';

/** Containers that are far larger than anybody's should be. None of them is ever started. */
export function sizes(lab: Lab): void {
  const create = async (name: string, more: object): Promise<string> => {
    const answer = await lab.docker.api('POST', `/containers/create?name=${name}`, { Image: BUSYBOX, Cmd: ['true'], ...more });
    return (JSON.parse(answer.toString()) as { Id: string }).Id;
  };
  const remove = (ids: string[]): Promise<unknown> => Promise.all(ids.map((id) => lab.docker.api('DELETE', `/containers/${id}`)));

  test('a container with 70 MB of labels does not keep the others from being served, also after a restart', async () => {
    const neighbour = await lab.docker.startIdle('beside-labels', { IAM_ROLE: 'app' });
    const id = await create('many-labels', { Labels: { large: 'x'.repeat(70_000_000) } });
    const later = await lab.docker.startIdle('after-labels', { IAM_ROLE: 'worker' });
    assert.deepEqual([await roleName(neighbour), await roleName(later)], ['app', 'worker']);
    await lab.startProxy();
    assert.deepEqual([await roleName(neighbour), await roleName(later)], ['app', 'worker']);
    const about = lab.proxy.log.filter((entry) => JSON.stringify(entry).includes(id.slice(0, 12)));
    assert.equal(about.length, 1, JSON.stringify(about));
    assert.ok(peakOf(lab) < MAX_PEAK_KB, `${peakOf(lab)} kB`);
    await remove([id]);
    await Promise.all([neighbour.remove(), later.remove()]);
  });

  test('eight containers with 20 MB of environment do not use up the memory, also after a restart', async () => {
    const neighbour = await lab.docker.startIdle('beside-env', { IAM_ROLE: 'app' });
    const ids: string[] = [];
    for (let n = 0; n < 8; n += 1) {
      ids.push(await create(`large-env-${n}`, { Env: Array.from({ length: 200 }, (_, at) => `V${at}=${'x'.repeat(100_000)}`) }));
    }
    const later = await lab.docker.startIdle('after-env', { IAM_ROLE: 'worker' });
    assert.deepEqual([await roleName(neighbour), await roleName(later)], ['app', 'worker']);
    assert.ok(peakOf(lab) < MAX_PEAK_KB, `${peakOf(lab)} kB`);
    for (const id of ids) {
      const about = lab.proxy.log.filter((entry) => JSON.stringify(entry).includes(id.slice(0, 12)));
      assert.equal(about.length, 1, JSON.stringify(about));
    }
    await lab.startProxy();
    assert.deepEqual([await roleName(neighbour), await roleName(later)], ['app', 'worker']);
    assert.ok(peakOf(lab) < MAX_PEAK_KB, `${peakOf(lab)} kB`);
    await remove(ids);
    await Promise.all([neighbour.remove(), later.remove()]);
  });
}

/** Node itself needs some 60 MB; what is read and parsed at a time, a few times its size. */
const MAX_PEAK_KB = 250_000;

/** The largest memory that the proxy has ever had. */
function peakOf(lab: Lab): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${lab.proxy.pid}/status`, 'utf8'))?.[1]);
}
