import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PrioritySemaphore } from '../../lib/credentials/priority-semaphore.ts';
import { settled } from './helpers/manual-clock.ts';
import { deferred } from './helpers/promises.ts';

/** Tasks that the test ends. */
function tasks(most: number) {
  const limiter = new PrioritySemaphore(most);
  const began: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const run = (name: string, urgent = false): Promise<string> => {
    const { promise, resolve, reject } = deferred<string>();
    ends.set(name, (error) => (error ? reject(error) : resolve(name)));
    const task = (): Promise<string> => {
      began.push(name);
      return promise;
    };
    return limiter.run(task, () => urgent);
  };
  return { run, began, end: (name: string, error?: Error) => ends.get(name)?.(error) };
}

test('concurrent tasks are limited, and the others run in order', async () => {
  const { run, began, end } = tasks(2);
  for (const name of ['a', 'b', 'c', 'd']) void run(name);
  await settled();
  assert.deepEqual(began, ['a', 'b']);
  end('b');
  await settled();
  assert.deepEqual(began, ['a', 'b', 'c']);
  end('a');
  end('c');
  await settled();
  assert.deepEqual(began, ['a', 'b', 'c', 'd']);
});

test('urgent tasks run first', async () => {
  const { run, began, end } = tasks(1);
  for (const name of ['a', 'b', 'c']) void run(name);
  void run('urgent', true);
  await settled();
  end('a');
  await settled();
  assert.deepEqual(began, ['a', 'urgent']);
  end('urgent');
  await settled();
  assert.deepEqual(began, ['a', 'urgent', 'b']);
});

test('a failed task releases its permit, and its caller gets the error', async () => {
  const { run, began, end } = tasks(1);
  const failing = assert.rejects(run('a'), /broken/);
  void run('b');
  await settled();
  end('a', new Error('broken'));
  await failing;
  await settled();
  assert.deepEqual(began, ['a', 'b']);
});

test('a new task cannot take a permit that is being handed over', async () => {
  const { run, began, end } = tasks(1);
  void run('a').then(() => run('c'));
  void run('b');
  await settled();
  end('a');
  await settled();
  assert.deepEqual(began, ['a', 'b'], 'the permit was already given to b');
});
