/** A few lines that are sent together. */
export interface Packet {
  readonly text: string;
  readonly lines: number;
}

/** In bytes. Receivers read 8 kB at once, as a rule (Datadog's agent: `dogstatsd_buffer_size`). */
const MAX_LINE_LENGTH = 8 * 1024;

/**
 * Fills packets with lines, up to `most` bytes each; a longer line is alone in its packet.
 *
 * @param groups lines that end in \n; where one has several, as a gauge below zero has, they stay in one packet
 * @param onDropped is told of lines that are too long for any receiver, and of those that were taken from `groups`
 *   but never became a packet, because nobody asked for more packets
 */
export function* packets(
  groups: Iterable<readonly string[]>,
  most: number,
  onDropped: (lines: number) => void,
): Generator<Packet, undefined> {
  let text = '';
  let size = 0;
  let lines = 0;
  let ungathered = 0;
  try {
    for (const group of groups) {
      ungathered = group.length;
      for (const line of group) {
        ungathered -= 1;
        const bytes = Buffer.byteLength(line);
        if (bytes > MAX_LINE_LENGTH) {
          onDropped(1);
          continue;
        }
        const full = lines > 0 && size + bytes > most ? { text, lines } : undefined;
        if (full) text = '', size = 0, lines = 0;
        text += line;
        size += bytes;
        lines += 1;
        if (full) yield full;
      }
    }
    const last = { text, lines };
    lines = 0;
    if (last.lines > 0) yield last;
  } finally {
    if (lines + ungathered > 0) onDropped(lines + ungathered);
  }
  return undefined;
}
