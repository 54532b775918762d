// A running HealLog with a database of its own, and devices with the real client.
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const LokiJSAdapter = require('@nozbe/watermelondb/adapters/lokijs').default
const { logger } = require('@nozbe/watermelondb/utils/common')
const { databaseOf, handIn, sync } = require('./page')

logger.silence()

const PYTHON = process.env.HEALLOG_PYTHON ?? path.join(__dirname, '..', '..', '.venv', 'bin', 'python')
const PASSWORD = 'nine lanterns over the ford'
const PATIENCE = 60_000

async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => probe.once('listening', resolve))
  const { port } = probe.address()
  await new Promise((resolve) => probe.close(resolve))
  return port
}

class House {
  // Everything that a server keeps is in this folder; it and what it starts end with `stop`.
  async start() {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'heallog-clients-'))
    fs.chmodSync(this.folder, 0o755)
    const port = await freePort()
    this.address = `http://127.0.0.1:${port}`
    const settings = {
      HEALLOG_DATA_DIR: path.join(this.folder, '.heallog'),
      HEALLOG_RATE_LIMITS: 'off',
      HEALLOG_LOG_LEVEL: 'error',
    }
    this.environment = { ...process.env, ...settings }
    this.process = this.heallog('serve', '--port', String(port))
    this.ended = new Promise((resolve) => this.process.once('exit', resolve))
    const until = Date.now() + PATIENCE
    while (!(await this.ready())) {
      if (this.process.exitCode !== null || Date.now() > until) throw new Error('HealLog does not start')
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  heallog(...words) {
    const { folder: cwd, environment: env } = this
    return spawn(PYTHON, ['-m', 'heallog', ...words], { env, cwd, stdio: ['pipe', 'ignore', 'inherit'] })
  }

  // What the operator says after a restore from a backup.
  async restored() {
    const code = await new Promise((resolve) => this.heallog('db', 'restored').once('exit', resolve))
    if (code !== 0) throw new Error(`heallog db restored: ${code}`)
  }

  async ready() {
    try {
      return (await fetch(`${this.address}/health/ready`)).ok
    } catch {
      return false
    }
  }

  async stop() {
    this.process.kill('SIGTERM')
    await this.ended
    fs.rmSync(this.folder, { recursive: true, force: true })
  }

  async call(method, address, { token, body } = {}) {
    const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) }
    const answer = await fetch(this.address + address, { method, headers, body: body && JSON.stringify(body) })
    if (!answer.ok) throw new Error(`${method} ${address}: ${answer.status} ${await answer.text()}`)
    return answer.json()
  }

  async clinic() {
    this.clinics = (this.clinics ?? 0) + 1
    const email = `alice-${this.clinics}@example.org`
    const fields = { email, password: PASSWORD, name: 'Alice', practice_name: 'Hillside' }
    const { tokens } = await this.call('POST', '/v1/auth/register', { body: fields })
    return new Clinic(this, email, tokens.access_token)
  }
}

class Clinic {
  constructor(house, email, token) {
    Object.assign(this, { house, email, token })
  }

  get(address) {
    return this.house.call('GET', address, { token: this.token })
  }

  // The same practice as another member sees it.
  async colleague(name) {
    const [email, { id }] = [`${name}-${this.email}`, await this.get('/v1/practice')]
    const made = this.house.heallog('user', 'create', email, '--name', name, '--practice', id, '--password-stdin')
    made.stdin.end(`${PASSWORD}\n`)
    const code = await new Promise((resolve) => made.once('exit', resolve))
    if (code !== 0) throw new Error(`heallog user create: ${code}`)
    const { access_token } = await this.house.call('POST', '/v1/auth/login', { body: { email, password: PASSWORD } })
    return new Clinic(this.house, email, access_token)
  }

  // An app on a device: a database, and the network that it may lose.
  async device(name, schema) {
    const body = { email: this.email, password: PASSWORD, device_id: name }
    const { access_token: token } = await this.house.call('POST', '/v1/auth/login', { body })
    return new Device(name, this.house.address, token, schema ?? (await this.get('/v1/sync/watermelon/schema')))
  }
}

class Device {
  constructor(name, address, token, schema) {
    Object.assign(this, { name, server: { address, token }, schema })
    this.database = databaseOf(schema, (described) => {
      return new LokiJSAdapter({
        ...described,
        dbName: name,
        useWebWorker: false,
        useIncrementalIndexedDB: true,
        extraLokiOptions: { autosave: false },
      })
    })
  }

  sync() {
    return sync(this.database, this.server)
  }

  handIn() {
    return handIn(this.database, this.server)
  }

  async create(table, id, values) {
    return this.database.write(() => {
      return this.database.get(table).create((record) => {
        record._raw.id = id
        Object.assign(record, values)
      })
    })
  }

  async find(table, id) {
    return this.database.get(table).find(id)
  }

  async edit(table, id, values) {
    const record = await this.find(table, id)
    await this.database.write(() => record.edit(() => Object.assign(record, values)))
  }

  // As an app does that knows nothing of base tokens.
  async plainEdit(table, id, values) {
    const record = await this.find(table, id)
    await this.database.write(() => record.update(() => Object.assign(record, values)))
  }

  // The rows of a table by id, as the client holds them.
  async rows(table) {
    const found = await this.database.get(table).query().fetch()
    return Object.fromEntries(found.map((record) => [record.id, { ...record._raw }]))
  }
}

module.exports = { House }
