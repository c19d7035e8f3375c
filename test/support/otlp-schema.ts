/**
 * A strict schema of ExportMetricsServiceRequest in OTLP's JSON, from opentelemetry-proto's metrics.proto, common.proto and
 * resource.proto, and the JSON mapping of Protocol Buffers with OTLP's exceptions (names only in lowerCamelCase, enums
 * only as numbers). 64-bit integers are decimal strings.
 */

type Check = (value: unknown, at: string) => string[];

const text: Check = (value, at) => {
  return typeof value === 'string' && !/\p{Surrogate}/u.test(value) ? [] : [`${at}: no string`];
};
const number: Check = (value, at) => (typeof value === 'number' && Number.isFinite(value) ? [] : [`${at}: no double`]);
const flag: Check = (value, at) => (typeof value === 'boolean' ? [] : [`${at}: no bool`]);
const integer = (minimum: bigint, maximum: bigint): Check => (value, at) => {
  if (typeof value !== 'string' || !/^(0|-?[1-9]\d*)$/.test(value)) return [`${at}: no decimal string`];
  return BigInt(value) >= minimum && BigInt(value) <= maximum ? [] : [`${at}: out of range`];
};
const unsigned64 = integer(0n, 2n ** 64n - 1n);
const signed64 = integer(-(2n ** 63n), 2n ** 63n - 1n);
const oneOf = (...values: unknown[]): Check => (value, at) => {
  return values.includes(value) ? [] : [`${at}: not one of ${values.join(', ')}`];
};
const list = (item: Check): Check => (value, at) => (Array.isArray(value)
  ? value.flatMap((one, index) => item(one, `${at}[${index}]`)) : [`${at}: no list`]);

/** A message: its fields, the fields of its "oneof", and the fields that OTLP's data model requires. */
function message(fields: Record<string, Check>, { one = [], required = [] }: {
  readonly one?: readonly string[];
  readonly required?: readonly string[];
} = {}): Check {
  return (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return [`${at}: no message`];
    const given = Object.entries(value);
    const chosen = given.filter(([name]) => one.includes(name));
    return [
      ...given.flatMap(([name, field]) => fields[name]?.(field, `${at}.${name}`) ?? [`${at}.${name}: unknown field`]),
      ...(one.length > 0 && chosen.length !== 1 ? [`${at}: ${chosen.length} of ${one.join(', ')}`] : []),
      ...required.filter((name) => !(name in value)).map((name) => `${at}.${name}: missing`),
    ];
  };
}

const anyValue = message({ stringValue: text, boolValue: flag, intValue: signed64, doubleValue: number },
  { one: ['stringValue', 'boolValue', 'intValue', 'doubleValue'] });
const attributes: Check = (value, at) => {
  const problems = list(message({ key: text, value: anyValue }, { required: ['key', 'value'] }))(value, at);
  const keys = problems.length > 0 ? [] : (value as { key: string }[]).map(({ key }) => key);
  return [
    ...problems,
    ...(new Set(keys).size < keys.length ? [`${at}: duplicate key`] : []),
    ...(keys.includes('') ? [`${at}: empty key`] : []),
  ];
};

const times = { startTimeUnixNano: unsigned64, timeUnixNano: unsigned64, attributes, flags: oneOf(0, 1) };
const numberPoint = message({ ...times, asDouble: number, asInt: signed64 },
  { one: ['asDouble', 'asInt'], required: ['timeUnixNano'] });
const histogramFields = message({
  ...times, count: unsigned64, sum: number, bucketCounts: list(unsigned64), explicitBounds: list(number),
  min: number, max: number,
}, { required: ['timeUnixNano', 'startTimeUnixNano', 'count'] });

interface HistogramPoint {
  readonly count: string;
  readonly bucketCounts: readonly string[];
  readonly explicitBounds: readonly number[];
}

const histogramPoint: Check = (value, at) => {
  const problems = histogramFields(value, at);
  if (problems.length > 0) return problems;
  const { count, bucketCounts, explicitBounds } = value as HistogramPoint;
  const all = bucketCounts.reduce((sum, one) => sum + BigInt(one), 0n);
  const isRising = explicitBounds.every((bound, index) => index === 0 || bound > (explicitBounds[index - 1] ?? NaN));
  return [
    ...(bucketCounts.length === explicitBounds.length + 1 ? [] : [`${at}: expected one bucket more than bounds`]),
    ...(all === BigInt(count) ? [] : [`${at}: the buckets contain ${all} of ${count}`]),
    ...(isRising ? [] : [`${at}: the bounds do not increase`]),
  ];
};

const temporality = oneOf(1, 2);
const metric = message({
  name: text, description: text, unit: text,
  gauge: message({ dataPoints: list(numberPoint) }, { required: ['dataPoints'] }),
  sum: message({ dataPoints: list(numberPoint), aggregationTemporality: temporality, isMonotonic: flag },
    { required: ['dataPoints', 'aggregationTemporality'] }),
  histogram: message({ dataPoints: list(histogramPoint), aggregationTemporality: temporality },
    { required: ['dataPoints', 'aggregationTemporality'] }),
}, { one: ['gauge', 'sum', 'histogram'], required: ['name'] });

const scope = message({ name: text, version: text, attributes });
const request = message({
  resourceMetrics: list(message({
    resource: message({ attributes }),
    scopeMetrics: list(message({ scope, metrics: list(metric), schemaUrl: text })),
    schemaUrl: text,
  })),
}, { required: ['resourceMetrics'] });

/** @returns the problems, each with its path; empty if the document is valid */
export function otlpProblems(json: unknown): string[] {
  return request(json, '$');
}
