import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PrioritySemaphore } from '../../lib/credentials/priority-semaphore.ts';
import { settled } from './helpers/manual-clock.ts';
import { deferred } from './helpers/promises.ts';

/** Tasks that end when the test says so. */
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

test('so many calls run at once, the others in the order in which they came', async () => {
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

test('the urgent ones come first', async () => {
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

test('a call that fails gives its place up as well, and its error to its caller', async () => {
  const { run, began, end } = tasks(1);
  const failing = assert.rejects(run('a'), /broken/);
  void run('b');
  await settled();
  end('a', new Error('broken'));
  await failing;
  await settled();
  assert.deepEqual(began, ['a', 'b']);
});

test('whoever comes as a place is handed on does not get it too', async () => {
  const { run, began, end } = tasks(1);
  void run('a').then(() => run('c'));
  void run('b');
  await settled();
  end('a');
  await settled();
  assert.deepEqual(began, ['a', 'b'], 'c came when the place was given to b already');
});
