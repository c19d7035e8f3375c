/** The parts of `metadataproxy-firewall --help`. */
export interface FirewallHelp {
  readonly usage: string;
  readonly summary: string;
  readonly commands: readonly HelpEntry[];
  readonly options: readonly HelpEntry[];
  /** The paragraphs after the options. */
  readonly notes: readonly string[];
}

export interface HelpEntry {
  /** `--container-iface NAME`, or `-h, --help` */
  readonly term: string;
  readonly text: string;
}

/**
 * @param help headings at the margin; entries indented by two spaces; an entry's text after at least two spaces, or
 *   indented further on the next lines
 * @throws Error for another format
 */
export function parseHelp(help: string): FirewallHelp {
  const [usage = '', summary = '', commands = '', options = '', ...notes] = help.trimEnd().split('\n\n').map(trimLines);
  if (!/^Usage: /.test(usage) || !/^Commands:\n/.test(commands) || !/^Options:\n/.test(options)) {
    throw new Error("invalid --help of the firewall script: expected the paragraphs Usage, a summary, Commands and Options");
  }
  return {
    usage: usage.replace(/^Usage: /, ''),
    summary: joined(summary),
    commands: entries(commands),
    options: entries(options),
    notes: notes.map(joined),
  };
}

const trimLines = (paragraph: string): string => paragraph.replace(/^\n+/, '');
const joined = (paragraph: string): string => paragraph.trim().replace(/\s*\n\s*/g, ' ');

function entries(part: string): HelpEntry[] {
  const found: { term: string; text: string }[] = [];
  for (const line of part.split('\n').slice(1)) {
    const [, term, text = ''] = /^ {2}(\S.*?)(?: {2,}(\S.*))?$/.exec(line) ?? [];
    if (term !== undefined) found.push({ term, text });
    else {
      const last = found.at(-1);
      if (!last) throw new Error(`invalid --help of the firewall script: text without a term: ${line}`);
      last.text = `${last.text} ${line.trim()}`.trim();
    }
  }
  return found;
}

/** The flags of an entry: `--ipv6` and `--no-ipv6`, each with whether it takes a value. */
export function flagsOf({ term }: HelpEntry): { readonly name: string; readonly takesValue: boolean }[] {
  return term.split(', ').map((spelling) => {
    const [name = '', value] = spelling.split(' ');
    return { name, takesValue: value !== undefined };
  });
}
