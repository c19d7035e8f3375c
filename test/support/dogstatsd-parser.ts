/** A DogStatsD line (docs.datadoghq.com/extend/dogstatsd/datagram_shell). The parser is stricter than the agent. */
export interface DogStatsDMetric {
  readonly name: string;
  readonly value: number;
  readonly type: 'c' | 'g';
  readonly tags: ReadonlyMap<string, string>;
}

const LINE = /^([A-Za-z][A-Za-z0-9_.]{0,199}):(-?\d+(?:\.\d+)?)\|(c|g)(?:\|#(.+))?$/;
/** Datadog keeps letters, digits, underscores, dashes, dots and slashes. A colon ends the key. */
const TAG = /^([^\s:,|#@\p{Cc}]+):([^\s:,|#@\p{Cc}]+)$/u;

/** @throws unless the packet is one or more complete lines */
export function parseDogStatsD(packet: string): DogStatsDMetric[] {
  if (!packet.endsWith('\n')) throw new Error(`the last line is incomplete: ${JSON.stringify(packet)}`);
  return packet.slice(0, -1).split('\n').map((line) => {
    const [, name, value, type, tags] = LINE.exec(line) ?? [];
    if (name === undefined) throw new Error(`not DogStatsD: ${JSON.stringify(line)}`);
    const pairs = (tags?.split(',') ?? []).map((tag): [string, string] => {
      const [, key, text] = TAG.exec(tag) ?? [];
      if (key === undefined || text === undefined) throw new Error(`invalid tag: ${JSON.stringify(tag)} in ${JSON.stringify(line)}`);
      return [key, text];
    });
    if (new Map(pairs).size < pairs.length) throw new Error(`duplicate tag in ${JSON.stringify(line)}`);
    return { name, value: Number(value), type: type === 'c' ? 'c' : 'g', tags: new Map(pairs) };
  });
}
