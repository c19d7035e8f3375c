// The copyright holders of this project and of the packages that esbuild bundled into the program.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Licensed {
  /** `node_modules/@smithy/core` */
  readonly directory: string;
  readonly spdx: string;
  readonly holder: string;
  /** The package's licence text; undefined if it contains none. */
  readonly text: string | undefined;
}

/** @param metafile the output of `esbuild --metafile` */
export function bundledPackages(metafile: string): Licensed[] {
  const { outputs } = JSON.parse(metafile) as {
    readonly outputs: Readonly<Record<string, { readonly inputs: Readonly<Record<string, { bytesInOutput: number }>> }>>;
  };
  const directories = Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => {
      const [directory] = /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file) ?? [];
      return directory === undefined || bytesInOutput === 0 ? [] : [directory];
    }),
  );
  return [...new Set(directories)].sort().map(licensed);
}

function licensed(directory: string): Licensed {
  const { license, author } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as {
    readonly license?: string;
    readonly author?: string | { readonly name: string };
  };
  const name = typeof author === 'string' ? author.replace(/ [<(].*/, '') : author?.name;
  const text = readIfThere(join(directory, 'LICENSE'));
  const [, stated] = /^\s*Copyright (?:\(c\) )?(\d{4}.*?)\s*$/im.exec(text ?? '') ?? [];
  const holder = stated ?? name;
  if (license === undefined || holder === undefined) throw new Error(`${directory}/package.json has no license or no author`);
  return { directory, spdx: license, holder, text };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Debian's name for a licence, if it differs from SPDX's. */
const DEBIAN_NAMES: Readonly<Record<string, string>> = { MIT: 'Expat' };

/** Licences whose text is on every Debian system, so a package only refers to it. */
const COMMON = new Set(['Apache-2.0']);

/**
 * The copyright file in Debian's machine-readable form.
 * @param ours the text of LICENSE
 * @see https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
 */
export function copyrightFile(ours: string, bundled: readonly Licensed[]): string {
  const [, holder = ''] = /^Copyright \(c\) (.*)$/m.exec(ours) ?? [];
  const all = [{ directory: '*', spdx: 'MIT', holder, text: ours }, ...bundled];
  const grounds = all.map(({ spdx, holder: of }) => `Copyright: ${of}\nLicense: ${nameOf(spdx)}`);
  const files = [...new Set(grounds)].map((ground) => {
    const members = all.filter((_, index) => grounds[index] === ground);
    const paths = members.map(({ directory }) => (directory === '*' ? '*' : `${directory}/*`));
    return `Files: ${paths.join('\n ')}\n${ground}\n`;
  });
  const licences = [...new Set(all.map(({ spdx }) => spdx))].map((spdx) => `License: ${nameOf(spdx)}\n${licence(spdx, ours)}`);
  const head = 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: metadataproxy\n';
  return [head, ...files, ...licences].join('\n');
}

const nameOf = (spdx: string): string => DEBIAN_NAMES[spdx] ?? spdx;

function licence(spdx: string, ours: string): string {
  if (COMMON.has(spdx)) return ` On Debian systems its text is in /usr/share/common-licenses/${spdx}.\n`;
  if (spdx !== 'MIT') throw new Error(`unsupported licence ${spdx}: add its text for the copyright file`);
  // After the title and the copyright line the text is the same for every package.
  const [, , ...paragraphs] = ours.trim().split('\n\n');
  return `${paragraphs.join('\n.\n').replace(/^/gm, ' ')}\n`;
}
