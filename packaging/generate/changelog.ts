// packaging/changelog is in Debian's form (deb-changelog(5)); rpm's is made from it.

export interface Release {
  readonly version: string;
  readonly changes: readonly string[];
  /** `Name <address>` */
  readonly maintainer: string;
  readonly date: Date;
}

const RELEASE = /^\S+ \((?<version>[^)]+)\) [^\n]*\n(?<body>.*?)\n -- (?<maintainer>.*?)  (?<date>[^\n]+)$/gms;

/** @throws Error if there is none that can be read */
export function latestRelease(changelog: string): Release {
  const [first] = releases(changelog);
  if (!first) throw new Error('packaging/changelog has no entry');
  return first;
}

function releases(changelog: string): Release[] {
  return [...changelog.matchAll(RELEASE)].map(({ groups = {} }) => ({
    version: groups['version'] ?? '',
    changes: (groups['body'] ?? '').split(/^ {2}\* /m).slice(1).map((change) => change.trim().replace(/\s*\n\s*/g, ' ')),
    maintainer: groups['maintainer'] ?? '',
    date: new Date(groups['date'] ?? ''),
  }));
}

/** The same as a spec file has it. */
export function rpmChangelog(changelog: string): string {
  const entries = releases(changelog).map(({ version, changes, maintainer, date }) => {
    const [weekday = '', day, month, year] = date.toUTCString().replace(',', '').split(' ');
    const head = `* ${weekday} ${month} ${day} ${year} ${maintainer} - ${version}-1`;
    return [head, ...changes.map((change) => `- ${change}`), ''].join('\n');
  });
  return entries.join('\n');
}
