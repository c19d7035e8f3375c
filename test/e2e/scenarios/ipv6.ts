import { strict as assert } from 'node:assert';
import { resolve as resolvePath } from 'node:path';
import { after, before, test } from 'node:test';
import { ROLE_NAMES, ask, callerIdentity, get, refusal } from '../metadata-requests.ts';
import { INSTANCE_ID } from '../host-identity.ts';
import { ACCOUNT, IMDS_ADDRESS_V6, type Lab } from '../lab.ts';
import { STATIC_KEYS } from '../proxy.ts';

const METADATA_V6 = `http://[${IMDS_ADDRESS_V6}]/latest/meta-data`;
const ROLE_NAMES_V6 = `${METADATA_V6}/iam/security-credentials/`;

const FIREWALL = resolvePath('iptables/setup');

/** Containers with an IPv6 address, behind the rules of iptables/setup. */
export function ipv6(lab: Lab): void {
  before(async () => {
    await lab.docker.docker('network', 'create', '--ipv6', '--subnet', 'fd00:1ab::/64', 'six');
    await lab.stopRedirecting();
    await lab.host.run([FIREWALL, 'install', '--ipv6']);
    await lab.startProxy({ ...STATIC_KEYS, HOST: '::' });
  });

  after(async () => {
    await lab.host.run([FIREWALL, 'remove', '--ipv6']);
    await lab.redirect();
    await lab.startProxy();
    await lab.docker.docker('network', 'rm', 'six');
  });

  test(`a container gets its role from [${IMDS_ADDRESS_V6}] over IPv6, and over IPv4`, async () => {
    const container = await lab.docker.startIdle('by-six', { IAM_ROLE: 'worker' }, { network: 'six' });
    const mark = lab.proxy.log.length;
    assert.equal(await ask(container, ROLE_NAMES_V6), 'worker');
    const answer = await ask(container, `${ROLE_NAMES_V6}worker`);
    const { AccessKeyId } = JSON.parse(answer) as { readonly AccessKeyId: string };
    const given = await lab.assumedRole(AccessKeyId);
    assert.equal(given?.roleArn, `arn:aws:iam::${ACCOUNT}:role/worker`);
    assert.equal(given.sessionName, `${container.name}-${container.shortId}`);
    assert.match(servedTo(lab, mark), /^(fd00:1ab::\d )+$/);

    assert.equal(await ask(container, ROLE_NAMES), 'worker', 'over IPv4');
    await container.remove();
  });

  test('the first instruction of a container gets its role over IPv6', async () => {
    for (const IAM_ROLE of ['app', 'worker', 'app']) {
      const command = get(ROLE_NAMES_V6);
      const container = await lab.docker.create({ network: 'six', env: { IAM_ROLE }, command });
      const { stdout, stderr } = await container.run();
      assert.equal(stdout, IAM_ROLE, stderr);
    }
  });

  test('the AWS CLI in IPv6 mode gets the container\'s role', async () => {
    const mark = lab.proxy.log.length;
    const caller = await callerIdentity(lab, {
      name: 'cli-six',
      network: 'six',
      env: { IAM_ROLE: 'app', AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: 'IPv6' },
    });
    assert.equal(caller.arn, caller.sessionOf('app', ACCOUNT));
    assert.match(servedTo(lab, mark), /^(fd00:1ab::\d )+$/);
  });

  test('a container without a role gets 404 for credentials over IPv6, and other metadata passes through', async () => {
    const container = await lab.docker.startIdle('no-role-six', {}, { network: 'six' });
    assert.equal(await refusal(container, ROLE_NAMES_V6), '404');
    assert.equal(await ask(container, `${METADATA_V6}/instance-id`), INSTANCE_ID);
    await container.remove();
  });
}

/** The addresses that got credentials since `mark` in the proxy's log, each followed by a space. */
function servedTo(lab: Lab, mark: number): string {
  return lab.proxy.log.slice(mark).filter(({ msg }) => msg === 'credentials served')
    .map(({ address }) => `${String(address)} `).join('');
}
