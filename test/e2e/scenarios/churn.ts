import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ECS_DOOR, type EcsCredentials, ROLE_NAMES } from '../asking.ts';
import type { Container } from '../container.ts';
import { ACCOUNT, type Lab } from '../lab.ts';
import { SeededRandom } from '../../support/seeded-random.ts';

const FULL = process.env['SOAK'] === '1';
const LIVES = FULL ? 510 : 60;
const RESTARTS = FULL ? 4 : 2;
const CONCURRENCY = 4;

/** One after the other; a container without a role is told so, whoever had its address before. */
const ROLES = ['app', 'worker', 'app', 'worker', undefined] as const;

/** Five addresses for containers each, so that an address soon goes to the next one. */
const NETWORKS = { home: '172.31.253.0/29', away: '172.31.252.0/29' } as const;

/** Between two things that happen to a container, in milliseconds. */
const MIN_STAY = 100;
const MAX_STAY = 300;

// The first instruction asks, and so do all others until it is killed: a line for each request, with the
// status of its program and all that it was told. Two seconds are what an SDK has patience for.
const ASK_FOR_EVER = `
  set -f
  trap exit TERM
  ask() { told=$(timeout 2 wget -q -O - "$2" 2>&1); echo $1 $? $told; }
  while :; do
    ask name ${ROLE_NAMES}
    ask door ${ECS_DOOR}
    usleep 50000
  done`;

/**
 * What may stay unanswered, and how often for each time that it happens to a container. A container that stays
 * where it is, is always answered.
 *
 *   joins, leaves     With a network the way to the host goes, for a moment (`unreachable`) or for a question that
 *                     is under way (`no answer`).
 *   daemon restarts   It takes connections long before it answers on them, so nobody can say whose an address
 *                     is: whoever has patience for less has no answer, or is told 503 after a while.
 */
const EXCUSES: { readonly [fate in Fate]: { readonly reasons: readonly string[]; readonly times: number } } = {
  stays: { reasons: [], times: 0 },
  visits: { reasons: ['404', 'unreachable', 'no answer'], times: 4 },
  moves: { reasons: ['404', 'unreachable', 'no answer'], times: 4 },
  'sees the daemon restart': { reasons: ['503', 'no answer'], times: 4 },
};

/**
 * An address that a running container gets serves it before the engine tells of it. The proxy waits for that, but not
 * for longer than an SDK does, and on a busy machine it may take longer: one in so many joins may be told 404.
 */
const JOINS_PER_404 = 20;

/** What a container goes through beside its start and its end. */
type Fate = 'moves' | 'visits' | 'stays' | 'sees the daemon restart';

interface Life {
  readonly container: Container;
  readonly role: (typeof ROLES)[number];
  readonly fate: Fate;
}

/** What all containers were told. */
class Verdict {
  answers = 0;
  refusals = 0;
  readonly wrong: string[] = [];
  /** By the fate of the container, the reason for each. */
  readonly unanswered = new Map<Fate, string[]>();
  /** How many containers had each fate. */
  readonly fates = new Map<Fate, number>();
  /** Containers that were killed before their first line. */
  silent = 0;
  readonly #lab: Lab;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** Judges every line that a container has written. */
  async take({ container, role, fate }: Life): Promise<void> {
    const { status, stdout, stderr } = await this.#lab.docker.tryDocker('logs', container.id);
    assert.equal(status, 0, stderr);
    // STS's own word for what an access key was given for.
    const sessions = new Map((await this.#lab.sts.call('assumedRoles')).map((one) => [one.accessKeyId, one]));
    this.fates.set(fate, (this.fates.get(fate) ?? 0) + 1);
    // What follows the last line's end is a line that the container was killed over.
    const lines = stdout.split('\n').slice(0, -1);
    if (lines.length === 0) this.silent += 1;
    for (const line of lines) {
      const [, question, status, told = ''] = /^(name|door) (\d+) ?(.*)$/.exec(line) ?? [];
      if (status !== '0') this.#takeFailure(line, told, role, fate);
      else if (question === 'name' && told === role) this.answers += 1;
      else if (question === 'door' && role !== undefined) {
        const arn = `arn:aws:iam::${ACCOUNT}:role/${role}`;
        const given = parsed(told);
        const session = sessions.get(given?.AccessKeyId ?? '');
        const own = given?.RoleArn === arn && session?.roleArn === arn &&
          session.sessionName === `${container.name}-${container.shortId}`;
        if (own) this.answers += 1;
        else this.wrong.push(`${container.name}, ${role}: ${given?.RoleArn}, ${session?.sessionName}`);
      } else this.wrong.push(`${container.name}, ${role}: ${line}`);
    }
  }

  #takeFailure(line: string, told: string, role: Life['role'], fate: Fate): void {
    const code = /HTTP\/1\.1 (\d+)/.exec(told)?.[1];
    if (role === undefined && code === '404') {
      this.refusals += 1;
      return;
    }
    const silence = told === '' || told === 'Terminated' ? 'no answer' : line;
    const reason = code ?? (told.endsWith('Network is unreachable') ? 'unreachable' : silence);
    this.unanswered.set(fate, [...this.unanswered.get(fate) ?? [], reason]);
  }
}

/** Containers come and go, move and are killed, and the daemon restarts under them. */
export function churn(lab: Lab): void {
  test(`${LIVES} containers that ask until they are killed get only their own roles`, async (t) => {
    const random = SeededRandom.fromEnvironment(process.env, 4);
    const verdict = new Verdict(lab);
    const mark = lab.proxy.log.length;
    for (const [name, subnet] of Object.entries(NETWORKS)) {
      await lab.docker.docker('network', 'create', '--subnet', subnet, name);
    }
    let lives = 0;
    const began = performance.now();

    const begin = async (fate: Fate): Promise<Life> => {
      lives += 1;
      const role = ROLES[lives % ROLES.length];
      const container = await lab.docker.create({
        name: `churn-${lives}`,
        network: 'home',
        env: role === undefined ? {} : { IAM_ROLE: role },
        command: ['/bin/sh', '-c', ASK_FOR_EVER],
        restartAlways: fate === 'sees the daemon restart',
      });
      await container.start();
      return { container, role, fate };
    };
    // A container is killed at any moment of its questions: no event would be that.
    const stay = (): Promise<void> => delay(random.int(MIN_STAY, MAX_STAY));
    const end = async (life: Life): Promise<void> => {
      await stay();
      await lab.docker.api('POST', `/containers/${life.container.id}/kill`);
      await verdict.take(life);
      await life.container.remove();
    };
    const network = (name: keyof typeof NETWORKS, action: 'connect' | 'disconnect', { container }: Life) =>
      lab.docker.api('POST', `/networks/${name}/${action}`, { Container: container.id });
    const live = async (): Promise<void> => {
      const fate = (['moves', 'visits', 'stays'] as const)[lives % 3] ?? 'stays';
      const life = await begin(fate);
      if (fate !== 'stays') {
        await stay();
        await network('away', 'connect', life);
        await stay();
        // With its first network gone, the other one's address is the only one that it can ask from.
        await network(fate === 'moves' ? 'home' : 'away', 'disconnect', life);
      }
      await end(life);
    };
    const restartDaemon = async (liveRestore: boolean): Promise<void> => {
      const fate = 'sees the daemon restart';
      const survivors = await Promise.all(Array.from({ length: CONCURRENCY }, () => begin(fate)));
      await stay();
      const before = lab.proxy.log.length;
      await lab.docker.stop();
      await stay();
      await lab.docker.start({ liveRestore });
      await lab.proxy.knowsContainers(before);
      await Promise.all(survivors.map(end));
    };

    // Every other restart stops all containers and brings them back at whatever addresses; the next one is one
    // that they go on over, without a daemon, and leaves it as it was.
    for (let restart = 1; restart <= RESTARTS; restart += 1) {
      const until = Math.round(LIVES * restart / RESTARTS) - CONCURRENCY;
      await Promise.all(Array.from({ length: CONCURRENCY }, async () => {
        while (lives < until) await live();
      }));
      await restartDaemon(restart % 2 === 1);
    }
    await lab.docker.docker('network', 'rm', ...Object.keys(NETWORKS));

    const addresses = new Set(lab.proxy.log.slice(mark)
      .filter(({ msg }) => msg === 'credentials served').map(({ address }) => address));
    const { answers, refusals, wrong, unanswered, silent } = verdict;
    t.diagnostic(`${lives} containers at ${addresses.size} addresses, ${RESTARTS} restarts of the daemon, in ` +
      `${Math.round((performance.now() - began) / 1000)} s`);
    t.diagnostic(`${answers} right answers, ${refusals} right refusals, ${wrong.length} wrong answers; ` +
      `${silent} containers killed before they were told anything`);
    for (const [fate, count] of verdict.fates) {
      const reasons = unanswered.get(fate) ?? [];
      t.diagnostic(`${count} lives: ${fate}; ${reasons.length} questions without an answer ` +
        JSON.stringify(counted(reasons)));
    }
    assert.deepEqual(wrong, []);
    assert.ok(answers > lives && refusals > 0, 'there was something to get wrong');
    assert.ok(addresses.size <= 10, 'the addresses went from hand to hand');
    for (const [fate, reasons] of unanswered) {
      const { reasons: excuses, times } = EXCUSES[fate];
      assert.deepEqual(reasons.filter((reason) => !excuses.includes(reason)), [], `unanswered: ${fate}`);
      const most = times * (verdict.fates.get(fate) ?? 0);
      assert.ok(reasons.length <= most, `${reasons.length} questions unanswered: ${fate}`);
    }
    const early = [...unanswered.values()].flat().filter((reason) => reason === '404').length;
    const joins = (verdict.fates.get('moves') ?? 0) + (verdict.fates.get('visits') ?? 0);
    assert.ok(early <= joins / JOINS_PER_404, `${early} × 404 at ${joins} joins`);
  });
}

/** Credentials as the ECS door told them; undefined when it told something else. */
function parsed(json: string): EcsCredentials | undefined {
  try {
    return JSON.parse(json) as EcsCredentials;
  } catch {
    return undefined;
  }
}

function counted(reasons: readonly string[]): Readonly<Record<string, number>> {
  const counts: { [reason: string]: number } = {};
  for (const reason of reasons) counts[reason] = (counts[reason] ?? 0) + 1;
  return counts;
}
