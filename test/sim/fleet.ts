import type { Credentials } from '../../lib/credentials/credentials.ts';
import { CredentialStore } from '../../lib/credentials/store.ts';
import { HOUR, type Ledger, OFFSET_MS, SAMPLE_MS } from './ledger.ts';
import { StsWithQuota } from './sts-with-quota.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** MAX_CONCURRENT_STS_CALLS of lib/app.ts. */
const MAX_CONCURRENT_CALLS = 16;
/** AssumeRole's default without DurationSeconds. */
const LIFETIME_MS = HOUR;

export interface FleetSize {
  readonly hosts: number;
  readonly containersPerHost: number;
  /**
   * Distinct role requests on a host; container n makes request n modulo this. If it equals the number of containers, the
   * fleet runs with SESSION_NAME=container, where no two containers share a session.
   */
  readonly requestsPerHost: number;
}

export interface FleetOptions extends FleetSize {
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  /** For everything outside the hosts. */
  readonly random: () => number;
  /** For the hosts' credential stores. A constant makes a fleet without jitter. */
  readonly storeRandom: () => number;
  readonly isUnavailable: (now: number) => boolean;
  readonly stsPerSecond: number;
}

interface Request {
  readonly key: string;
  /** Its index in the ledger. */
  readonly credential: number;
}

/** A host: the real credential store, and the containers that use it. */
class Host {
  readonly #requests: Request[];
  readonly #options: FleetOptions;
  readonly #fetch: (request: Request) => Promise<Credentials>;
  #store: CredentialStore<Request> | undefined;

  constructor(options: FleetOptions, number: number, fetch: (request: Request) => Promise<Credentials>) {
    const { requestsPerHost } = options;
    this.#options = options;
    this.#fetch = fetch;
    this.#requests = Array.from({ length: requestsPerHost }, (_, index) => (
      { key: String(index), credential: number * requestsPerHost + index }
    ));
  }

  /** The host starts with a new store. */
  boot(): void {
    const { clock, ledger, storeRandom } = this.#options;
    this.#store?.close();
    this.#store = new CredentialStore<Request>({
      fetch: this.#fetch, clock, random: storeRandom, offset: OFFSET_MS, concurrency: MAX_CONCURRENT_CALLS,
      events: {
        credentialsFetched: ({ credential }, { validUntil }) => ledger.got(credential, validUntil),
        credentialsFailed: () => {},
      },
    });
    this.startContainers();
  }

  startContainers(): void {
    for (const request of this.#requests) this.#options.ledger.begins(request.credential);
    this.#forEachContainer((store, request) => store.retain(request));
  }

  endContainers(): void {
    for (const request of this.#requests) this.#options.ledger.ends(request.credential);
    this.#forEachContainer((store, request) => store.release(request));
  }

  #forEachContainer(act: (store: CredentialStore<Request>, request: Request) => void): void {
    for (let container = 0; container < this.#options.containersPerHost; container += 1) {
      const request = this.#requests[container % this.#requests.length];
      if (this.#store !== undefined && request !== undefined) act(this.#store, request);
    }
  }
}

/** Many hosts in one account and region. */
export class Fleet {
  readonly #hosts: Host[];
  readonly #options: FleetOptions;

  constructor(options: FleetOptions) {
    const { clock, ledger, random, isUnavailable, stsPerSecond } = options;
    this.#options = options;
    const sts = new StsWithQuota({
      clock, random, isUnavailable, perSecond: stsPerSecond,
      onAttempt: (outcome) => ledger.attempt(clock.now(), outcome),
    });
    const fetch = async ({ credential }: Request): Promise<Credentials> => {
      ledger.asked(credential, clock.now());
      await sts.assumeRole();
      return credentialsUntil(clock.now() + LIFETIME_MS);
    };
    this.#hosts = Array.from({ length: options.hosts }, (_, number) => new Host(options, number, fetch));
    const sample = (): void => {
      ledger.sample(clock.now());
      clock.after(SAMPLE_MS, sample);
    };
    clock.after(0, sample);
  }

  /** Boots every host, at random times within so many milliseconds. */
  boot(within: number): void {
    this.#eachWithin(0, within, (host) => host.boot());
  }

  /** Replaces each host's containers, at random times in [after, after + within] milliseconds. */
  deploy(after: number, within: number): void {
    this.#eachWithin(after, within, (host) => {
      host.endContainers();
      host.startContainers();
    });
  }

  #eachWithin(after: number, within: number, act: (host: Host) => void): void {
    const { clock, random } = this.#options;
    for (const host of this.#hosts) clock.after(after + within * random(), () => act(host));
  }
}

function credentialsUntil(validUntil: number): Credentials {
  return {
    accessKeyId: '', secretAccessKey: '', sessionToken: '', expiration: validUntil, validUntil, lastUpdated: 0,
    roleArn: '', accountId: '', assumedRoleArn: '', assumedRoleId: '',
  };
}
