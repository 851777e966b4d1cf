/**
 * Checks the manifests in cluster/kubernetes against published schemas. A field that the schema
 * does not have is a mistake, as with `kubectl apply --validate=strict`. The two files of schemas
 * are not in this repository, because they are large and belong to others. The caller downloads
 * them:
 *
 *   npm run compile && node dist/scripts/cluster-schemas.js swagger.json jobset.x-k8s.io_jobsets.yaml
 *
 * The first file is api/openapi-spec/swagger.json of github.com/kubernetes/kubernetes. The second
 * file is config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml of
 * github.com/kubernetes-sigs/jobset.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { script } from './command.ts';

/** The fields of an OpenAPI schema that this script checks. */
interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly format?: string;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-group-version-kind'?: readonly Kind[];
}

interface Kind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

type Definitions = Readonly<Record<string, Schema>>;
type Value = Readonly<Record<string, unknown>>;

const folder = 'cluster/kubernetes';
const definitions: Record<string, Schema> = {};
/** The schema of each kind of document. The key is the kind, for example "apps/v1 Deployment". */
const schemas = new Map<string, Schema>();

const command = script(
  'cluster-schemas',
  'check the files in cluster/kubernetes against published schemas, and refuse unknown fields',
  'swagger.json jobset.x-k8s.io_jobsets.yaml',
).argument('<schemas...>', 'files with the schemas of Kubernetes and of JobSet');
for (const file of command.parse().args) read(file);
let checked = 0;
let wrong = 0;
for (const file of readdirSync(folder)) check(file);
process.stdout.write(`${checked} documents checked, ${wrong} mistakes\n`);
process.exitCode = wrong > 0 || checked === 0 ? 1 : 0;

function read(file: string): void {
  for (const document of documentsOf(file)) {
    if (document['kind'] === 'CustomResourceDefinition') readCustom(document);
    else readSwagger(document['definitions'] as Definitions);
  }
}

function readSwagger(all: Definitions): void {
  for (const [name, schema] of Object.entries(all)) {
    definitions[name] = schema;
    for (const { group, version, kind } of schema['x-kubernetes-group-version-kind'] ?? []) {
      schemas.set(`${group === '' ? version : `${group}/${version}`} ${kind}`, schema);
    }
  }
}

function readCustom(document: Value): void {
  const { group, names, versions } = document['spec'] as {
    readonly group: string;
    readonly names: { readonly kind: string };
    readonly versions: readonly {
      readonly name: string;
      readonly schema: { readonly openAPIV3Schema: Schema };
    }[];
  };
  for (const { name, schema } of versions) {
    schemas.set(`${group}/${name} ${names.kind}`, schema.openAPIV3Schema);
  }
}

function check(file: string): void {
  for (const document of documentsOf(join(folder, file))) {
    const name = `${document['apiVersion']} ${document['kind']}`;
    if (document['kind'] === 'Kustomization') continue;
    const schema = schemas.get(name);
    const mistakes = schema === undefined ? [`no schema of ${name}`] : mistakesIn(document, schema);
    for (const mistake of mistakes) process.stdout.write(`${file}: ${mistake}\n`);
    checked++;
    wrong += mistakes.length;
  }
}

function documentsOf(file: string): Value[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).map((it) => it.toJS() as Value);
}

/** Returns the mistakes in a value, each as the text `path: mistake`. */
function mistakesIn(value: unknown, given: Schema, path = ''): string[] {
  const schema = resolved(given);
  const found = mistakeOf(value, schema);
  if (found !== undefined) return [`${path}: ${found}`];
  if (Array.isArray(value)) {
    return value.flatMap((it, i) => mistakesIn(it, schema.items ?? {}, `${path}[${i}]`));
  }
  if (!isObject(value)) return [];
  const missing = (schema.required ?? []).filter((key) => !Object.hasOwn(value, key));
  return [
    ...missing.map((key) => `${path}.${key}: the field is missing`),
    ...Object.entries(value).flatMap(([key, it]) => fieldMistakes(it, key, schema, path)),
  ];
}

function fieldMistakes(value: unknown, key: string, schema: Schema, path: string): string[] {
  const field = schema.properties?.[key] ?? schema.additionalProperties;
  if (typeof field === 'object') return mistakesIn(value, field, `${path}.${key}`);
  const open = field === true || schema.properties === undefined;
  return open ? [] : [`${path}.${key}: there is no such field`];
}

function mistakeOf(value: unknown, schema: Schema): string | undefined {
  const { type, pattern, minimum = -Infinity, maximum = Infinity } = schema;
  if (isIntOrString(schema)) {
    return typeof value === 'string' || Number.isInteger(value)
      ? undefined
      : `expected a whole number or a text, found ${kindOf(value)}`;
  }
  if (type !== undefined && !hasType(value, type))
    return `expected ${type}, found ${kindOf(value)}`;
  if (schema.enum !== undefined && !schema.enum.includes(value))
    return `expected one of ${schema.enum.join(', ')}, found ${value}`;
  if (typeof value === 'number' && (value < minimum || value > maximum))
    return `expected ${minimum} to ${maximum}, found ${value}`;
  if (pattern === undefined || typeof value !== 'string') return undefined;
  return new RegExp(pattern).test(value) ? undefined : `${value} does not match ${pattern}`;
}

/**
 * True if a field accepts both an integer and a string. The swagger file marks such a field by the
 * format `int-or-string`, JobSet's schema by the extension `x-kubernetes-int-or-string`.
 */
function isIntOrString(schema: Schema): boolean {
  return schema['x-kubernetes-int-or-string'] === true || schema.format === 'int-or-string';
}

function resolved(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  const name = schema.$ref.replace('#/definitions/', '');
  const found = definitions[name];
  if (found === undefined)
    throw new Error(`the schemas refer to ${name}, but no schema has this name`);
  return found;
}

function hasType(value: unknown, type: string): boolean {
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isObject(value);
  return typeof value === type;
}

function isObject(value: unknown): value is Value {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? 'array' : value === null ? 'nothing' : typeof value;
}
