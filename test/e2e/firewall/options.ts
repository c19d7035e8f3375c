import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { execute } from '../machine.ts';
import { IMDS4, IMDS6, SETUP } from './addresses.ts';

/** What needs no host: options, and what `print` makes of them. */
export function options(): void {
  test('prints what can be given to iptables-restore and ip6tables-restore', async () => {
    const printed = await iptablesRules();
    const heads = printed.match(/^(# ip\w+-restore --noflush|\*\w+|COMMIT)$/gm);
    const tables = ['*mangle', 'COMMIT', '*filter', 'COMMIT', '*nat', 'COMMIT'];
    const [first, second] = ['# iptables-restore --noflush', '# ip6tables-restore --noflush'];
    assert.deepEqual(heads, [first, ...tables, second, ...tables]);
    for (const address of [IMDS4, IMDS6]) {
      assert.ok(printed.includes(`-A METADATAPROXY-FORWARD -d ${address} -j DROP\n`));
      for (const name of ['docker0', 'br-+', 'docker_gwbridge']) {
        const rule = `-i ${name} -d ${address} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 18000\n`;
        assert.ok(printed.includes(rule), rule);
      }
    }
  });

  test('prints a table that nft accepts, and routing rules that ip accepts', async () => {
    const printed = await print('--backend', 'nft', '--anti-spoof', '--ecs', '--host-network', '--proxy-user', '1',
      '--trusted-iface', 'virbr0');
    const [, table = ''] = printed.split(/^# .*\n/m);
    const commands = printed.split('\n').filter((line) => line.startsWith('ip -'));
    const script = `set -e\nnft --file - <<'END'\n${table}\nEND\n${commands.join('\n')}\nip rule; ip -6 rule`;
    const { status, stdout, stderr } = await execute('unshare', ['--net', '/bin/sh', '-c', script]);
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    for (const address of [IMDS4, '169.254.170.2', IMDS6]) {
      assert.match(stdout, new RegExp(`^102:\tfrom all to ${address} prohibit`, 'm'));
      assert.match(table, new RegExp(`^    ip6? daddr ${address} counter drop$`, 'm'));
    }
  });

  test('takes the options of the older setup-firewall.sh', async () => {
    const older = ['--container-iface', 'docker0', '--proxy-port', '8000', '--metadata-ip', '169.254.1.1',
      '--metadata-port', '8080'];
    const rule = '-A METADATAPROXY-REDIRECT -i docker0 -d 169.254.1.1 -p tcp -m tcp --dport 8080';
    assert.deepEqual(redirects(await iptablesRules('--no-ipv6', ...older)), [`${rule} -j REDIRECT --to-ports 8000`]);
    assert.deepEqual(redirects(await iptablesRules('--no-ipv6', ...older, '--proxy-ip', '172.17.0.1')),
      [`${rule} -j DNAT --to-destination 172.17.0.1:8000`]);
    assert.equal(await iptablesRules(...older), await iptablesRules(...joined(older)), '--option=value is the same');
  });

  test('takes as many interfaces as there are, also ones that end in +', async () => {
    const printed = await iptablesRules('--no-ipv6', '--container-iface', 'cni0', '--container-iface', 'team-+');
    assert.deepEqual(redirects(printed).map((rule) => / -i (\S+)/.exec(rule)?.[1]), ['cni0', 'team-+']);
  });

  test('takes the address of ECS task credentials with --ecs', async () => {
    assert.match(await iptablesRules('--ecs'), /-A METADATAPROXY-FORWARD -d 169\.254\.170\.2 -j DROP\n/);
    assert.doesNotMatch(await iptablesRules(), /170\.2/);
  });

  test('takes a proxy and a metadata address of each family', async () => {
    const printed = await iptablesRules('--proxy-ip', '10.0.0.1', '--proxy-ip', 'fd00::1',
      '--metadata-ip', 'fd00:ec2::1', '--container-iface', 'docker0');
    const rule = '-A METADATAPROXY-REDIRECT -i docker0 -d';
    assert.deepEqual(redirects(printed), [
      `${rule} ${IMDS4} -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:18000`,
      `${rule} fd00:ec2::1 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::1]:18000`,
    ]);
  });

  test('never names anything but the metadata addresses and the proxy\'s port', async () => {
    const printed = await iptablesRules('--anti-spoof', '--ecs', '--host-network', '--trusted-iface', 'virbr0');
    const rules = printed.split('\n').filter((line) => line.startsWith('-A '));
    const harmless = / -j RETURN$/;
    const narrow = / -d (169\.254\.169\.254|169\.254\.170\.2|fd00:ec2::254) | --dport 18000 /;
    assert.deepEqual(rules.filter((rule) => !harmless.test(rule) && !narrow.test(rule)), []);
    assert.ok(rules.length > 50);
  });

  for (const wrong of [
    ['--container-iface', '+'], ['--container-iface', 'eth0 -j ACCEPT'], ['--container-iface', 'a+b'],
    ['--container-iface', 'sixteen-letters-'], ['--container-iface'], ['--proxy-port', '0'],
    ['--proxy-port', '65536'], ['--proxy-port', '80;id'], ['--metadata-ip', '0.0.0.0/0'],
    ['--metadata-ip', 'metadata.internal'], ['--proxy-ip', ''], ['--proxy-user', '-x'], ['--frobnicate'],
    ['flush'], ['remove', 'install'], ['--host-network-root', '--proxy-user', 'root'],
  ]) {
    test(`refuses ${wrong.join(' ')}`, async () => {
      const { status, stdout, stderr } = await execute(SETUP, ['print', ...wrong]);
      assert.deepEqual({ status, stdout }, { status: 2, stdout: '' });
      assert.match(stderr, /^setup: .+\n$/);
    });
  }

  test('busybox prints the same as the system\'s shell and tools', async () => {
    for (const backend of ['nft', 'iptables']) {
      const args = ['print', '--backend', backend, '--ecs', '--anti-spoof', '--host-network', '--proxy-user', '1'];
      const { stdout, stderr } = await execute('/bin/busybox', ['sh', SETUP, ...args]);
      assert.deepEqual({ stdout, stderr }, { stdout: await print(...args.slice(1)), stderr: '' });
    }
  });

  test('--help explains each option and command', async () => {
    const source = await readFile(SETUP, 'utf8');
    const options = new Set(source.match(/(?<=^    )--[a-z0-9-]+(?=\))/gm));
    const { stdout } = await execute(SETUP, ['--help']);
    const unexplained = [...options, 'install', 'close', 'remove', 'status', 'verify', 'watch', 'print', '--help'].filter(
      (word) => !new RegExp(`^  (--?\\w+, )?${word}\\b`, 'm').test(stdout) && !stdout.includes(`, ${word} `));
    assert.deepEqual(unexplained, []);
    assert.ok(options.size >= 14, `${options.size} options`);
  });
}

async function print(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await execute(SETUP, ['print', ...args]);
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  return stdout;
}

function iptablesRules(...args: string[]): Promise<string> {
  return print('--backend', 'iptables', ...args);
}

function redirects(printed: string): string[] {
  return printed.split('\n').filter((line) => line.startsWith('-A METADATAPROXY-REDIRECT '));
}

function joined(options: readonly string[]): string[] {
  return options.flatMap((option, n) => (n % 2 === 0 ? [`${option}=${options[n + 1] ?? ''}`] : []));
}
