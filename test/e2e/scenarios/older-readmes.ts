import { strict as assert } from 'node:assert';
import { dirname, resolve as resolvePath } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, describe, test } from 'node:test';
import { ROLE_NAMES, get } from '../metadata-requests.ts';
import { ACCOUNT, type Lab } from '../lab.ts';
import { execute } from '../machine.ts';
import { STS_FRONT_PORT } from '../ports.ts';

// A directory on the host, where /run belongs to the lab: the saved firewall, a pid file, and the older programs' names.
const HERE = '/run/older-readmes';

/** metadataproxy is installed under each of these names. */
const PROGRAMS = [
  'metadataproxy', 'docker-ec2-metadata', 'docker-metadata-proxy', 'ec2metaproxy', 'iam-docker',
];

/** The READMEs' images. The entrypoint requests the role's name, then its credentials. */
const IMAGES = ['ubuntu:14.04', 'ubuntu:latest'];
const REQUEST_CREDENTIALS = `
  role=$(${get(ROLE_NAMES).join(' ')}) && echo "$role" && exec ${get(ROLE_NAMES).join(' ')}"$role"`;

/** The older programs' images, with metadataproxy in them and their ports. */
const PROXY_IMAGES: Readonly<Record<string, string>> = {
  'lyft/metadataproxy': '8000',
  'jippi/go-metadataproxy': '8000',
  'dump247/ec2metaproxy': '18000',
  'swipely/iam-docker': '8080',
};

const STS = `http://127.0.0.1:${STS_FRONT_PORT}`;

/** The lab's endpoints of STS and IAM; everything else is at its standard address. */
const ENDPOINTS = { AWS_ENDPOINT_URL_STS: STS, AWS_ENDPOINT_URL_IAM: STS };

/** Longer than any command of a README takes. A command that reaches it has failed. */
const TIMEOUT_S = 20;

/**
 * The commands in the READMEs of the four programs that this one replaces, on a host with only the instance profile. They
 * are unchanged, except for commands that started no single file (`gunicorn metadataproxy:app`, `go run main.go`) and for
 * go-metadataproxy's default port. No other proxy may run in the lab.
 */
export function olderReadmes(lab: Lab): void {
  before(async () => {
    await lab.makeRoles('my-role', 'my-default-role');
    for (const image of IMAGES) await lab.docker.makeImage(image, ['/bin/sh', '-c', REQUEST_CREDENTIALS]);
    await makeProxyImages(lab);
    // The host that the READMEs assume: Docker's standard socket, the old ifconfig, sudo.
    await lab.host.run(['/bin/sh', '-euc', `
      ln -s ${lab.docker.socket} /run/docker.sock
      mkdir -p ${HERE}/bin
      ln -s /bin/busybox ${HERE}/bin/ifconfig
      printf '#!/bin/sh\\nexec "$@"\\n' >${HERE}/bin/sudo
      chmod 755 ${HERE}/bin/sudo
      cd ${HERE}/bin
      for name in ${PROGRAMS.join(' ')}; do ln -s ${resolvePath('bin/metadataproxy')} $name; done`]);
    await lab.stopRedirecting();
    await lab.host.run(['/bin/sh', '-euc', `iptables-save >${HERE}/firewall`]);
  });

  afterEach(async () => {
    await stopProxy();
    const filters = [...IMAGES, ...Object.keys(PROXY_IMAGES)].map((image) => `--filter=ancestor=${image}`);
    const ids = await lab.docker.docker('ps', '--all', '--quiet', ...filters);
    if (ids !== '') await lab.docker.docker('rm', '--force', ...ids.split('\n'));
    await lab.docker.docker('network', 'prune', '--force');
    await lab.host.run(['/bin/sh', '-euc', `iptables-restore --wait <${HERE}/firewall`]);
  });

  after(async () => {
    await lab.redirect();
    await lab.host.run(['rm', '-r', '/run/docker.sock', HERE]);
  });

  describe('lyft\'s metadataproxy', () => {
    // DOCKER_URL is the default in its README.
    const MY_CONFIG = `
      cat >my_config <<'END'
export HOST=0.0.0.0
export PORT=8000
export WORKERS=1
export DEBUG=False
export DOCKER_URL=unix://var/run/docker.sock
export DEFAULT_ROLE=my-default-role
export AWS_ACCOUNT_MAP='{"another-account":"210987654321"}'
END
      source my_config
      metadataproxy`;

    test('with its rule to 127.0.0.1:8000 and route_localnet a container gets its role', async () => {
      await startProxy(lab, MY_CONFIG);
      const routeLocalnet = '/proc/sys/net/ipv4/conf/docker0/route_localnet';
      await shell(lab, `
        echo 1 >${routeLocalnet}
        /sbin/iptables \\
          --append PREROUTING \\
          --destination 169.254.169.254 \\
          --protocol tcp \\
          --dport 80 \\
          --in-interface docker0 \\
          --jump DNAT \\
          --table nat \\
          --to-destination 127.0.0.1:8000 \\
          --wait`);
      try {
        await gives(lab, { 'docker run -e IAM_ROLE=my-role ubuntu:14.04': role('my-role') });
      } finally {
        await shell(lab, `echo 0 >${routeLocalnet}`);
      }
    });

    test('with its rules to $LOCAL_IPV4:8000 every `docker run` of its README gets its role', async () => {
      await startProxy(lab, MY_CONFIG);
      await shell(lab, LOCAL_IPV4_RULES);
      await gives(lab, {
        'docker run -e IAM_ROLE=my-role ubuntu:14.04': role('my-role'),
        'docker run -e IAM_ROLE=my-role@012345678910 ubuntu:14.04': role('my-role', '012345678910'),
        'docker run -e IAM_ROLE=arn:aws:iam::012345678910:role/my-role ubuntu:14.04':
          role('my-role', '012345678910'),
        ['docker run -e IAM_ROLE=their-role@another-account ' +
          '-e IAM_EXTERNAL_ID=random-unique-string ubuntu:14.04']:
          role('their-role', '210987654321', 'random-unique-string'),
        'docker run ubuntu:14.04': role('my-default-role'),
      });
    });

    test('its `docker run --net=host` of an image with metadataproxy does the same', async () => {
      await startProxy(lab, `
        docker run --net=host \\
          -e DEFAULT_ROLE=my-default-role \\
          -v /var/run/docker.sock:/var/run/docker.sock \\
          lyft/metadataproxy`);
      await shell(lab, LOCAL_IPV4_RULES);
      await gives(lab, {
        'docker run -e IAM_ROLE=my-role ubuntu:14.04': role('my-role'),
        'docker run ubuntu:14.04': role('my-default-role'),
      });
    });
  });

  describe('go-metadataproxy', () => {
    test('with its rules containers on docker0 and on some-network get their roles', async () => {
      await startProxy(lab, `
        cat >my_config <<'END'
export HOST=0.0.0.0
export PORT=8000
export DEFAULT_ROLE=my-default-role
export ROLE_CACHE_OFFSET=5m30s
export LOG_FORMAT=gelf
export COPY_DOCKER_LABELS=PROJECT_VERSION,SOMETHING_ELSE
export COPY_DOCKER_ENV=PROJECT_VERSION,SOMETHING_ELSE
END
        source my_config
        metadataproxy`);
      await shell(lab, `${LOCAL_IPV4_RULES}
        docker network create some-network
        /sbin/iptables \\
          --append PREROUTING \\
          --destination 169.254.169.254 \\
          --protocol tcp \\
          --dport 80 \\
          --in-interface br-+ \\
          --jump DNAT \\
          --table nat \\
          --to-destination $LOCAL_IPV4:8000 \\
          --wait`);
      await gives(lab, {
        'docker run -e IAM_ROLE=my-role ubuntu:14.04': role('my-role'),
        'docker run --network some-network -e IAM_ROLE=my-role@012345678910 ubuntu:14.04':
          role('my-role', '012345678910'),
        'docker run -e IAM_ROLE=arn:aws:iam::012345678910:role/my-role ubuntu:14.04':
          role('my-role', '012345678910'),
        'docker run --network some-network ubuntu:14.04': role('my-default-role'),
      });
    });

    test('its `docker run --net=host` of an image with metadataproxy does the same', async () => {
      await startProxy(lab, `
        docker run --net=host \\
          -v /var/run/docker.sock:/var/run/docker.sock \\
          jippi/go-metadataproxy`);
      await shell(lab, LOCAL_IPV4_RULES);
      await gives(lab, { 'docker run -e IAM_ROLE=my-role ubuntu:14.04': role('my-role') });
    });
  });

  describe('docker-ec2-metadata and ec2metaproxy', () => {
    const OWN = 'docker run -e \'IAM_ROLE=arn:aws:iam::123456789012:role/ContainerRoleName\' ubuntu:14.04';
    const WITH_POLICY = 'docker run -e \'IAM_POLICY={"Version":"2012-10-17",' +
      '"Statement":{"Effect":"Allow","Resource":"*","Action":"ec2:*"}}\' ubuntu:14.04';

    test('docker-ec2-metadata --server, --default-iam-role, with its rules to eth0\'s address', async () => {
      await startProxy(lab, `
        SERVICE_IP=$(ifconfig eth0 | grep -Eo "inet addr:[0-9.]+" | grep -Eo "[0-9.]+")
        SERVICE_PORT=18000
        DEFAULT_IAM_ROLE=arn:aws:iam::123456789012:role/DefaultRole
        docker-ec2-metadata --server "$SERVICE_IP:$SERVICE_PORT" --default-iam-role "$DEFAULT_IAM_ROLE"`);
      await shell(lab, ETH0_RULES);
      await gives(lab, {
        [OWN]: role('ContainerRoleName'),
        'docker run ubuntu:14.04': role('DefaultRole'),
      });
    });

    test('docker-metadata-proxy --role, its first name', async () => {
      await startProxy(lab, 'docker-metadata-proxy --role arn:aws:iam::123456789012:role/DEFAULT_ROLE_NAME');
      await shell(lab, ETH0_RULES);
      await gives(lab, { 'docker run ubuntu:14.04': role('DEFAULT_ROLE_NAME') });
    });

    test('IAM_ROLE_ARN, the first name of IAM_ROLE', async () => {
      await startProxy(lab, 'docker-metadata-proxy --role arn:aws:iam::123456789012:role/DEFAULT_ROLE_NAME');
      await shell(lab, ETH0_RULES);
      const arn = 'arn:aws:iam::123456789012:role/CONTAINER_ROLE_NAME';
      await gives(lab, { [`docker run -e IAM_ROLE_ARN=${arn} ubuntu:14.04`]: role('CONTAINER_ROLE_NAME') });
    });

    for (const [how, lines] of [
      ['the arguments of ec2metaproxy\'s run-docker.sh', 'ec2metaproxy'],
      ['ec2metaproxy\'s run-docker.sh itself', `
        docker run -d --net=host -v /var/run/docker.sock:/var/run/docker.sock --name="ec2metaproxy" \\
          --restart=always "dump247/ec2metaproxy"`],
    ] as const) {
      test(`${how}, with the rules of its setup-firewall.sh`, async () => {
        await startProxy(lab, `
          proxy_ip=${DOCKER0_ADDRESS}
          ${lines} \\
            --default-iam-role "arn:aws:iam::123456789012:role/DefaultRole" \\
            --default-iam-policy "" \\
            --server "\${proxy_ip}:18000" \\
            docker
          docker logs --follow ec2metaproxy`);
        await shell(lab, `
          proxy_ip=${DOCKER0_ADDRESS}
          iptables -I INPUT -p tcp --dport "18000" ! -i "docker0" -j DROP
          iptables -t nat -I PREROUTING -p tcp -d "169.254.169.254" --dport "80" \\
            -j DNAT --to-destination "\${proxy_ip}:18000" -i "docker0"`);
        await gives(lab, { [OWN]: role('ContainerRoleName'), [WITH_POLICY]: role('DefaultRole') });
      });
    }
  });

  describe('iam-docker', () => {
    // The account in its README has ten digits, which is invalid; this one has two more.
    const EXPORTS = `
      export IMAGE="ubuntu:latest"
      export PROFILE="arn:aws:iam::123412341234:role/some-role"`;
    const SOME_ROLE = role('some-role', '123412341234');

    for (const [how, line] of [
      ['its flags', 'iam-docker -listen-addr :8080 -meta-data-api http://169.254.169.254:80 ' +
        '-event-handlers=4 -docker-sync-period 0s -credential-refresh-period=1m -read-timeout 1m ' +
        '-write-timeout=1m -verbose --disable-upstream'],
      ['its `docker run`', 'docker run --volume /var/run/docker.sock:/var/run/docker.sock --restart=always ' +
        '--net=host swipely/iam-docker:latest'],
    ] as const) {
      test(`with ${how} and its REDIRECT, its label and IAM_ROLE declare a container's role`, async () => {
        await startProxy(lab, line);
        await shell(lab, `
          export NETWORK="bridge"
          export PORT="8080"
          export INTERFACE="$(docker network inspect \\
            -f '{{index .Options "com.docker.network.bridge.name"}}' "$NETWORK")"
          sudo iptables -t nat -I PREROUTING -p tcp -d 169.254.169.254 --dport 80 \\
            -j REDIRECT --to-ports "$PORT" -i "$INTERFACE"`);
        await gives(lab, {
          [`${EXPORTS}
            docker run --label com.swipely.iam-docker.iam-profile="$PROFILE" "$IMAGE"`]: SOME_ROLE,
          [`${EXPORTS}
            docker run -e IAM_ROLE="$PROFILE" "$IMAGE"`]: SOME_ROLE,
        });
      });
    }
  });
}

/** The rules in the READMEs of lyft's metadataproxy and go-metadataproxy, for port 8000. */
const LOCAL_IPV4_RULES = `
  LOCAL_IPV4=$(curl http://169.254.169.254/latest/meta-data/local-ipv4)
  /sbin/iptables \\
    --append PREROUTING \\
    --destination 169.254.169.254 \\
    --protocol tcp \\
    --dport 80 \\
    --in-interface docker0 \\
    --jump DNAT \\
    --table nat \\
    --to-destination $LOCAL_IPV4:8000 \\
    --wait
  /sbin/iptables \\
    --wait \\
    --insert INPUT 1 \\
    --protocol tcp \\
    --dport 80 \\
    \\! \\
    --in-interface docker0 \\
    --jump DROP`;

/** The rules in the READMEs of docker-ec2-metadata and ec2metaproxy. */
const ETH0_RULES = `
  PROXY_IP=$(ifconfig eth0 | grep -Eo "inet addr:[0-9.]+" | grep -Eo "[0-9.]+")
  PROXY_PORT=18000
  iptables -I INPUT -p tcp --dport \${PROXY_PORT} ! -i docker0 -j DROP
  iptables -t nat -I PREROUTING -p tcp -d 169.254.169.254 --dport 80 \\
    -j DNAT --to-destination \${PROXY_IP}:\${PROXY_PORT} -i docker0`;

/** How ec2metaproxy's scripts determine the proxy's address. */
const DOCKER0_ADDRESS = `$(ifconfig "docker0" | grep "inet addr" | awk -F: '{print $2}' | awk '{print $1}')`;

/** A container's answers: the role's name, and the role of its credentials in STS's record. */
interface Answers {
  readonly name: string;
  readonly roleArn: string | undefined;
  readonly externalId: string | undefined;
}

function role(name: string, account = ACCOUNT, externalId?: string): Answers {
  return { name, roleArn: `arn:aws:iam::${account}:role/${name}`, externalId };
}

/** Runs all lines concurrently and compares the answers of their containers. */
async function gives(lab: Lab, expected: Readonly<Record<string, Answers>>): Promise<void> {
  const answers = Object.keys(expected).map(async (line) => [line, await answersOf(lab, line)] as const);
  assert.deepEqual(Object.fromEntries(await Promise.all(answers)), expected);
}

/** Runs a line that starts a container of IMAGES, and waits until it exits. */
async function answersOf(lab: Lab, line: string): Promise<Answers> {
  const [name = '', ...json] = (await shell(lab, line)).split('\n');
  const { AccessKeyId } = JSON.parse(json.join('\n')) as { readonly AccessKeyId: string };
  const given = await lab.assumedRole(AccessKeyId);
  return { name, roleArn: given?.roleArn, externalId: given?.externalId };
}

/** Runs lines on the host as root's shell would, and returns the output. */
function shell(lab: Lab, lines: string): Promise<string> {
  return lab.host.run(['/usr/bin/timeout', String(TIMEOUT_S), ...bash(lines)]);
}

function bash(lines: string): string[] {
  const path = [`${HERE}/bin`, '/usr/sbin', '/usr/bin', '/sbin', '/bin', dirname(process.execPath)];
  const variables = Object.entries({ ...ENDPOINTS, HOME: HERE, PATH: path.join(':') });
  return ['/usr/bin/env', '-i', `--chdir=${HERE}`, ...variables.map(([name, value]) => `${name}=${value}`),
    '/bin/bash', '--norc', '-euc', lines];
}

let stopProxy = async (): Promise<void> => undefined;

/** Runs the lines that start the proxy. Resolves when it knows the containers. */
async function startProxy(lab: Lab, lines: string): Promise<void> {
  // In a new process group, which is killed as a whole, because the shell waits for the program.
  const child = await lab.host.spawnInside(
    ['/usr/bin/setsid', ...bash(`echo $$ >pid\n${lines}`)], { stdio: ['ignore', 'ignore', 'pipe'] });
  const { stderr } = child;
  if (stderr === null) throw new Error('no pipe from the proxy');
  let running = true;
  const ended = new Promise<void>((resolve) => child.once('close', () => {
    running = false;
    resolve();
  }));
  const kill = (signal: string) =>
    lab.host.tryRun(['/bin/bash', '-c', `kill -${signal} -- "-$(cat ${HERE}/pid)"`]);
  stopProxy = async () => {
    if (running) await kill('TERM');
    const timer = setTimeout(() => void kill('KILL'), TIMEOUT_S * 1000);
    await ended;
    clearTimeout(timer);
  };
  const log: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const fail = (what: string) => (): void => reject(new Error(`the proxy ${what}:\n${log.join('\n')}`));
    const timer = setTimeout(fail('does not log that it knows the containers'), TIMEOUT_S * 1000);
    createInterface({ input: stderr }).on('line', (line) => {
      log.push(line);
      if (!line.includes('containers known')) return;
      clearTimeout(timer);
      resolve();
    });
    void ended.then(() => clearTimeout(timer)).then(fail('ended'));
  });
}

/** Images like those of the older programs: the program is the entrypoint, with their port. */
async function makeProxyImages(lab: Lab): Promise<void> {
  const { stdout } = await execute('ldd', [process.execPath]);
  const libraries = stdout.match(/\/\S+(?= \()/g) ?? [];
  const files = Object.fromEntries([...libraries, process.execPath].map((path) => [path, path]));
  const base = 'lab/metadataproxy';
  await lab.docker.makeImage(base, [process.execPath, '/bin/metadataproxy'], {
    files: { ...files, '/bin/metadataproxy': resolvePath('bin/metadataproxy') },
    env: ENDPOINTS,
  });
  const container = await lab.docker.docker('create', base);
  for (const [image, port] of Object.entries(PROXY_IMAGES)) {
    await lab.docker.docker('commit', '--change', `ENV PORT=${port}`, container, image);
  }
  await lab.docker.docker('rm', container);
}
