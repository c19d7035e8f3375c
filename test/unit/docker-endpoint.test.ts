import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDockerEndpoint } from '../../lib/docker/endpoint.ts';

for (const text of [
  'unix:///var/run/docker.sock',
  'unix://var/run/docker.sock',
  '/var/run/docker.sock',
  'unix:////var/run/docker.sock',
]) {
  test(`${text} means the absolute path`, () => {
    const url = 'unix:///var/run/docker.sock';
    assert.deepEqual(parseDockerEndpoint(text), { kind: 'unix', socketPath: '/var/run/docker.sock', url });
  });
}

test('a socket may have a space or a colon in its path', () => {
  assert.equal(parseDockerEndpoint('unix:///a b:c')?.url, 'unix:///a b:c');
});

for (const [text, host, port, tls] of [
  ['tcp://127.0.0.1:2375', '127.0.0.1', 2375, false],
  ['tcp://127.0.0.1', '127.0.0.1', 2375, false],
  ['tcp://docker.example:80', 'docker.example', 80, false],
  ['tcp://h:2376/', 'h', 2376, false],
  ['tcp://[::1]', '::1', 2375, false],
  ['tcp://[fd00::1]:1234', 'fd00::1', 1234, false],
  ['http://h:80', 'h', 80, false],
  ['https://h', 'h', 2376, true],
  ['https://h:443', 'h', 443, true],
] as const) {
  test(`${text} is ${tls ? 'TLS on ' : ''}port ${port} of ${host}`, () => {
    const expected = { kind: 'tcp', host, port, url: text, ...(tls ? { tls: {} } : {}) };
    assert.deepEqual(parseDockerEndpoint(text), expected);
  });
}

for (const text of [
  '',
  'docker.sock',
  'unix://',
  'unix:',
  'tcp:',
  'h:2375',
  'ssh://h',
  'npipe:////./pipe/docker',
  'fd://',
  'tcp://h:99999',
  'tcp://h:x',
  'tcp://h/path',
  'tcp://h?x=1',
  'tcp://user@h',
  'tcp://a b',
  ' unix:///a',
  'ftp://h',
]) {
  test(`${JSON.stringify(text)} is not an endpoint`, () => {
    assert.equal(parseDockerEndpoint(text), undefined);
  });
}

for (const text of ['/', '//', 'unix:///', 'unix:////']) {
  test(`${text} is not an endpoint: it names no socket`, () => {
    assert.equal(parseDockerEndpoint(text), undefined);
  });
}

for (const text of ['tcp://', 'tcp://256.256.256.256:2375', 'tcp://1.2.3.4.5:2375', 'tcp://h%zz:2375']) {
  test(`${text} is not an endpoint`, () => {
    assert.equal(parseDockerEndpoint(text), undefined);
  });
}
