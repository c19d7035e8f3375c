import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inheritedSocket } from '../../lib/inherited-socket.ts';

test('the first socket passed to this process is file descriptor 3', () => {
  assert.equal(inheritedSocket({ LISTEN_PID: '42', LISTEN_FDS: '1' }, 42), 3);
  assert.equal(inheritedSocket({ LISTEN_PID: '42', LISTEN_FDS: '2', LISTEN_FDNAMES: 'a:b' }, 42), 3);
});

for (const [what, env] of Object.entries<NodeJS.ProcessEnv>({
  'nothing was passed': {},
  'the variables are for another process': { LISTEN_PID: '41', LISTEN_FDS: '1' },
  'no socket was passed': { LISTEN_PID: '42', LISTEN_FDS: '0' },
  'the number of sockets is invalid': { LISTEN_PID: '42', LISTEN_FDS: 'one' },
  'the number of sockets is missing': { LISTEN_PID: '42' },
})) {
  test(`there is no inherited socket when ${what}`, () => {
    assert.equal(inheritedSocket(env, 42), undefined);
  });
}

test('no child process sees the variables', () => {
  const env: NodeJS.ProcessEnv = { LISTEN_PID: '42', LISTEN_FDS: '1', LISTEN_FDNAMES: 'x', PATH: '/bin' };
  inheritedSocket(env, 42);
  assert.deepEqual(env, { PATH: '/bin' });
});
