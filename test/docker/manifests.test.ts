import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { finalExitCodes } from '../../cluster/final.ts';
import { isStopCode } from '../../cluster/host/ending.ts';

/*
 * Checks of every manifest that need no Docker. scripts/cluster-schemas.ts compares the manifests
 * with the published schemas of Kubernetes, and *.test.sh runs them with Docker.
 */

const text = z.string();
const limits = z.object({ cpus: text, memory: text, pids: z.number().min(32).max(1024) });
const logging = z.strictObject({
  driver: z.literal('json-file'),
  options: z.object({ 'max-size': text, 'max-file': text }),
});
const guarded = {
  image: z.literal(`\${POD_IMAGE:-tpu-pod}`),
  init: z.literal(true),
  user: z.literal('1000:1000'),
  read_only: z.literal(true),
  cap_drop: z.tuple([z.literal('ALL')]),
  logging,
  command: z.tuple([z.enum(['master', 'worker'])]),
  environment: z.record(text, text).optional(),
};
const composeService = z.strictObject({
  ...guarded,
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
  tmpfs: z.tuple([z.string().regex(/^\/tmp:size=\d+m,.*noexec,nosuid,nodev$/)]),
  profiles: z.array(z.enum(['job', 'serve'])).min(1),
  volumes: z.array(text),
  networks: z.unknown().optional(),
  network_mode: z.literal('none').optional(),
  build: z.unknown().optional(),
  restart: text.optional(),
  healthcheck: z.looseObject({ test: z.array(text) }).optional(),
  depends_on: z.record(text, z.object({ condition: text })).optional(),
  stop_grace_period: z
    .string()
    .regex(/^\d+s$/)
    .optional(),
  cpu_shares: z.number().optional(),
  ports: z.array(text).optional(),
  deploy: z.strictObject({ replicas: text.optional(), resources: z.object({ limits }) }),
});
const compose = z.looseObject({ services: z.record(text, composeService) });

const stackService = z.strictObject({
  ...guarded,
  networks: z.tuple([z.literal('ici')]),
  secrets: z.tuple([z.looseObject({ source: z.literal('pod-token'), mode: z.literal(0o400) })]),
  healthcheck: z.strictObject({ disable: z.literal(true) }),
  hostname: text,
  volumes: z.array(z.looseObject({ type: z.enum(['tmpfs', 'volume']), target: text })),
  stop_grace_period: z.string().regex(/^\d+s$/),
  deploy: z.looseObject({
    replicas: z.union([text, z.number()]),
    endpoint_mode: z.literal('dnsrr'),
    restart_policy: z.looseObject({ condition: z.enum(['on-failure', 'none']) }),
    resources: z.object({ limits }),
  }),
});
const stack = z.looseObject({
  version: text,
  services: z.record(text, stackService),
  secrets: z.object({ 'pod-token': z.object({ external: z.literal(true) }) }),
});

const container = z.looseObject({
  name: text,
  image: z.literal('tpu-pod'),
  args: z.array(text),
  env: z.array(z.object({ name: text, value: text })),
  ports: z.array(z.object({ name: text, containerPort: z.number() })),
  resources: z.object({
    requests: z.object({ cpu: text, memory: text }),
    limits: z.object({ cpu: text, memory: text }),
  }),
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.object({ drop: z.tuple([z.literal('ALL')]) }),
  }),
});
const podSpec = z.looseObject({
  restartPolicy: text,
  hostname: text.optional(),
  subdomain: text.optional(),
  automountServiceAccountToken: z.literal(false),
  terminationGracePeriodSeconds: z.number(),
  securityContext: z.looseObject({
    runAsNonRoot: z.literal(true),
    runAsUser: z.literal(1000),
    seccompProfile: z.object({ type: z.literal('RuntimeDefault') }),
  }),
  containers: z.tuple([container]),
  volumes: z.array(z.looseObject({ name: text })),
});
const jobSpec = z.looseObject({
  completions: z.number(),
  parallelism: z.number(),
  backoffLimit: z.number(),
  completionMode: text.optional(),
  template: z.object({ metadata: z.object({ labels: z.record(text, text) }), spec: podSpec }),
});
type JobSpec = z.infer<typeof jobSpec>;
const failurePolicy = z.looseObject({
  podFailurePolicy: z.object({ rules: z.array(z.looseObject({ action: text })) }),
});
const job = z.looseObject({ metadata: z.object({ name: text }), spec: jobSpec });
const jobSet = z.looseObject({
  metadata: z.object({ name: text }),
  spec: z.looseObject({
    network: z.looseObject({ subdomain: text }),
    replicatedJobs: z.array(
      z.object({ name: text, replicas: z.literal(1), template: z.object({ spec: jobSpec }) }),
    ),
  }),
});
const service = z.looseObject({
  metadata: z.object({ name: text }),
  spec: z.object({
    clusterIP: z.literal('None'),
    publishNotReadyAddresses: z.literal(true),
    selector: z.record(text, text),
    ports: z.array(z.object({ name: text, port: z.number() })),
  }),
});
const policy = z.looseObject({
  spec: z.object({
    podSelector: z.object({ matchLabels: z.record(text, text) }),
    ingress: z.array(z.looseObject({ ports: z.array(z.object({ port: z.number() })) })),
  }),
});

const composed = () => compose.parse(read('docker-compose.yml')[0]).services;
const stacked = () => stack.parse(read('cluster/swarm/stack.yml')[0]);
const kubernetes = (file: string) => read(`cluster/kubernetes/${file}.yaml`);

test('every Compose container has restricted rights, limits and a rotated log', () => {
  const services = composed();
  expect(Object.keys(services).sort()).toEqual(['master', 'serve', 'spare', 'tpu']);
  for (const name of ['master', 'serve', 'tpu', 'spare']) {
    const { restart, healthcheck, stop_grace_period } = services[name]!;
    // entry.sh restarts a crashed program inside the container. So Compose need not restart the
    // container.
    expect(restart).toBe('no');
    expect(healthcheck?.test).toEqual(['CMD', 'node', 'dist/cluster/worker/ready.js']);
    expect(stop_grace_period).toBeDefined();
  }
});

test('Compose and Swarm take the number of Cloud TPUs from one variable', () => {
  const everywhere = `\${TPUS:-8}`;
  const { master, serve, tpu } = composed();
  for (const it of [master, serve]) expect(it?.environment?.['TPUS']).toBe(everywhere);
  expect(tpu?.deploy.replicas).toBe(everywhere);
  const swarm = stacked().services;
  expect(swarm['master']?.environment?.['TPUS']).toBe(everywhere);
  expect(swarm['tpu']?.deploy.replicas).toBe(everywhere);
});

test('the default profile of Compose is a pod that trains and ends', () => {
  const env = readFileSync('.env', 'utf8');
  expect(env).toMatch(/^COMPOSE_PROFILES=job$/m);
  expect(env).toMatch(/^TPUS=8$/m);
  const { master, serve, tpu } = composed();
  expect([master?.profiles, serve?.profiles]).toEqual([['job'], ['serve']]);
  expect(tpu?.profiles).toEqual(['job', 'serve']);
  expect(serve?.networks).toEqual({ ici: { aliases: ['master'] } });
});

test('only a master can write the token, and ports are published on loopback only', () => {
  for (const [name, { volumes, ports = [] }] of Object.entries(composed())) {
    const mount = volumes.filter((it) => it.startsWith('token:'));
    const isMaster = name === 'master' || name === 'serve';
    expect(mount).toEqual([isMaster ? 'token:/run/secrets' : 'token:/run/secrets:ro']);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
  }
});

test('Compose stops a master before its workers', () => {
  const { master, serve, tpu } = composed();
  for (const it of [master, serve]) {
    expect(it?.depends_on).toEqual({ tpu: { condition: 'service_started' } });
  }
  expect(tpu?.depends_on).toBeUndefined();
});

test('a Swarm stack runs the same programs as Compose and numbers its workers by slot', () => {
  const { services } = stacked();
  const { master, tpu } = composed();
  expect(services['master']?.command).toEqual(master?.command);
  expect(services['tpu']?.command).toEqual(tpu?.command);
  expect(services['tpu']?.environment).toEqual({
    ...tpu?.environment,
    POD_SLOT: '{{.Task.Slot}}',
  });
});

test('the Jobs of Kubernetes agree with each other, with the Service and with the policies', () => {
  const [master, tpu] = [job.parse(kubernetes('master')[0]), job.parse(kubernetes('tpu')[0])];
  const found = service.parse(kubernetes('service')[0]);
  agree(master.spec, tpu.spec);
  const { hostname, subdomain } = master.spec.template.spec;
  expect([subdomain, tpu.spec.template.spec.subdomain]).toEqual(Array(2).fill(found.metadata.name));
  expect(environment(tpu.spec)['POD_MASTER']).toBe(`${hostname}.${subdomain}:7070`);
  for (const { spec } of [master, tpu]) {
    expect(spec.template.metadata.labels).toMatchObject(found.spec.selector);
    for (const { name, containerPort } of spec.template.spec.containers[0].ports) {
      expect(found.spec.ports).toContainEqual({ name, port: containerPort });
    }
  }
  const policies = kubernetes('network-policy').map((it) => policy.parse(it).spec);
  expect(policies.map(({ podSelector }) => podSelector.matchLabels)).toEqual(
    [master, tpu].map(({ spec }) => spec.template.metadata.labels),
  );
  expect(
    policies.map(({ ingress }) => ingress.flatMap((it) => it.ports.map((p) => p.port))),
  ).toEqual([[7070, 7080], [7071]]);
});

test('orchestrators restart a program after a failure that may pass, and not after a final one', () => {
  const { services } = stacked();
  expect(services['master']?.deploy.restart_policy.condition).toBe('none');
  expect(services['tpu']?.deploy.restart_policy).toMatchObject({
    condition: 'on-failure',
    max_attempts: 5,
  });
  const final = finalExitCodes.filter((code) => code > 0 && !isStopCode(code));
  const [master, worker] = [kubernetes('master')[0], kubernetes('tpu')[0]].map((it) => {
    const { spec } = job.parse(it);
    expect(spec.template.spec.restartPolicy).toBe('Never');
    return failurePolicy.parse(spec).podFailurePolicy.rules[0];
  });
  expect(master).toMatchObject({ action: 'FailJob', onExitCodes: { values: final } });
  expect(worker).toMatchObject({ action: 'FailJob', onExitCodes: { values: [2] } });
});

test('the JobSet has the same containers as the Jobs, and its workers find the master', () => {
  const { metadata, spec } = jobSet.parse(kubernetes('jobset')[0]);
  const [master, tpu] = spec.replicatedJobs;
  agree(master!.template.spec, tpu!.template.spec);
  const host = `${metadata.name}-master-0-0.${spec.network.subdomain}`;
  expect(environment(tpu!.template.spec)['POD_MASTER']).toBe(`${host}:7070`);
  for (const { name, template } of spec.replicatedJobs) {
    expect(withoutNames(template.spec)).toEqual(withoutNames(job.parse(kubernetes(name)[0]).spec));
  }
});

test('the kustomization names existing files', () => {
  const { resources } = z
    .looseObject({ resources: z.array(text) })
    .parse(kubernetes('kustomization')[0]);
  for (const file of resources) expect(existsSync(`cluster/kubernetes/${file}`)).toBe(true);
});

test('.dockerignore admits every file that the image copies, and the image runs without root', () => {
  const lines = readFileSync('cluster/image/Dockerfile', 'utf8').split('\n');
  const allowed = readFileSync('.dockerignore', 'utf8').split('\n');
  const copied = lines.flatMap(
    (it) => /^COPY (?!--from)(?:--chmod=\d+ )?(.*) \S+$/.exec(it)?.[1]?.split(' ') ?? [],
  );
  expect(copied.length).toBeGreaterThan(5);
  for (const it of copied) {
    expect(existsSync(it)).toBe(true);
    const isAllowed = (line: string): boolean =>
      line === `!${it}` || line.startsWith(`!${it}/`) || `!${it}`.startsWith(`${line}/`);
    expect(allowed.filter((line) => line.startsWith('!')).some(isAllowed)).toBe(true);
  }
  expect(lines.filter((it) => it.startsWith('USER'))).toEqual(['USER 1000:1000']);
});

/**
 * Expects that `master` is a Kubernetes Job with one master, and that `tpu` is an indexed Job with
 * workers. The number of workers must equal the environment variable TPUS of the master.
 */
function agree(master: JobSpec, tpu: JobSpec): void {
  const count = Number(environment(master)['TPUS']);
  expect([tpu.completions, tpu.parallelism, tpu.completionMode]).toEqual([count, count, 'Indexed']);
  expect([master.completions, master.parallelism]).toEqual([1, 1]);
  const [program, worker] = [master, tpu].map((it) => it.template.spec.containers[0].args);
  expect(program).toEqual(['master']);
  expect(worker).toEqual(['worker']);
}

function environment(spec: JobSpec): Record<string, string> {
  const { env } = spec.template.spec.containers[0];
  return Object.fromEntries(env.map(({ name, value }) => [name, value]));
}

/**
 * Returns the specification of a Kubernetes Job without host names, without the address of the
 * master and without `ttlSecondsAfterFinished`. Two Jobs that run the same program may differ only
 * in these fields.
 */
function withoutNames(spec: JobSpec): unknown {
  const { hostname: _h, subdomain: _s, ...pod } = spec.template.spec;
  const [only] = pod.containers;
  const env = only.env.filter(({ name }) => name !== 'POD_MASTER');
  const { ttlSecondsAfterFinished: _t, ...rest } = spec;
  const template = { ...spec.template, spec: { ...pod, containers: [{ ...only, env }] } };
  return { ...rest, template };
}

/**
 * Parses a file as Docker and Kubernetes do: as YAML 1.1, with merge keys. In YAML 1.1 the mode
 * 0400 of a file is an octal number.
 */
function read(file: string): unknown[] {
  const documents = parseAllDocuments(readFileSync(file, 'utf8'), { version: '1.1', merge: true });
  return documents.map((it) => {
    expect(it.errors).toEqual([]);
    return it.toJS();
  });
}
