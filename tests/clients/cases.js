// Runs the cases of cases.json with the real client: what its rows are after each, and what it pushed.
//
// A case is a list of steps; `expect` is what is left of it. With HEALLOG_RECORD=1 that is written anew, as the client does it.
const fs = require('node:fs')
const path = require('node:path')
const { synchronize } = require('@nozbe/watermelondb/sync')
const LokiJSAdapter = require('@nozbe/watermelondb/adapters/lokijs').default
const { logger } = require('@nozbe/watermelondb/utils/common')
const { databaseOf } = require('./page')

logger.silence()

const FILE = path.join(__dirname, 'cases.json')

let databases = 0

// What stands for a value that JSON has not: {"$": "NaN"}.
const valueOf = (value) => (value !== null && typeof value === 'object' && '$' in value ? Number(value.$) : value)

const valuesOf = (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, valueOf(value)]))

// A nonce is another one each time.
function told(row) {
  return typeof row.base_token === 'string' ? { ...row, base_token: row.base_token.replace(/:.*/, ':…') } : { ...row }
}

const byId = (one, other) => (one.id < other.id ? -1 : 1)

class Play {
  constructor(schema) {
    databases += 1
    this.database = databaseOf(schema, (described) => {
      return new LokiJSAdapter({
        ...described,
        dbName: `case-${databases}`,
        useWebWorker: false,
        useIncrementalIndexedDB: true,
        extraLokiOptions: { autosave: false },
      })
    })
    this.pushed = []
    this.refused = 0
  }

  async steps(list) {
    for (const step of list) await this[step.do](step)
  }

  async create({ table, id, values }) {
    await this.database.write(() => {
      return this.database.get(table).create((record) => {
        record._raw.id = id
        Object.assign(record, valuesOf(values))
      })
    })
  }

  async edit({ table, id, values, token }) {
    const record = await this.database.get(table).find(id)
    const change = () => Object.assign(record, valuesOf(values))
    await this.database.write(() => (token ? record.edit(change) : record.update(change)))
  }

  async delete({ table, id }) {
    const record = await this.database.get(table).find(id)
    await this.database.write(() => record.markAsDeleted())
  }

  // `meanwhile` are steps that happen while the answer of the server is on its way; `lost`: there is none.
  async sync({ pull, push = {} }) {
    try {
      await synchronize({
        database: this.database,
        sendCreatedAsUpdated: true,
        pullChanges: async ({ lastPulledAt }) => {
          await this.steps(pull.meanwhile ?? [])
          if (pull.lost) throw new Error('lost')
          const of = ({ created = [], updated = [], deleted = [] }) => {
            return { created: created.map(valuesOf), updated: updated.map(valuesOf), deleted }
          }
          const entries = Object.entries(pull.changes ?? {}).map(([table, lists]) => [table, of(lists)])
          this.pushed.push({ pulled_since: lastPulledAt ?? null })
          return { changes: Object.fromEntries(entries), timestamp: pull.timestamp }
        },
        pushChanges: async ({ changes, lastPulledAt }) => {
          const entries = Object.entries(changes).map(([table, { created, updated, deleted }]) => {
            const lists = {
              created: created.map(told).sort(byId),
              updated: updated.map(told).sort(byId),
              deleted: [...deleted].sort(),
            }
            return [table, lists]
          }).filter(([, lists]) => Object.values(lists).some((rows) => rows.length > 0))
          this.pushed.push({ pushed_at: lastPulledAt, changes: Object.fromEntries(entries) })
          await this.steps(push.meanwhile ?? [])
          if (push.lost) throw new Error('lost')
          return { experimentalRejectedIds: push.rejected }
        },
      })
    } catch {
      this.refused += 1
    }
  }

  async left() {
    const rows = {}
    for (const table of Object.keys(this.database.collections.map)) {
      const found = this.database.adapter.underlyingAdapter._driver.loki.getCollection(table).find()
      if (found.length > 0) rows[table] = found.map(({ $loki, meta, ...row }) => told(row)).sort(byId)
    }
    return { rows, pushed: this.pushed, refused: this.refused }
  }
}

async function played({ schema, steps }) {
  const play = new Play(schema)
  await play.steps(steps)
  // As it is written to the file.
  return JSON.parse(JSON.stringify(await play.left()))
}

const read = () => JSON.parse(fs.readFileSync(FILE, 'utf8'))

async function record() {
  const known = read()
  for (const one of known.cases) one.expect = await played({ schema: known.schema, steps: one.steps })
  // A case a line.
  const lines = known.cases.map((one) => JSON.stringify(one)).join(',\n')
  fs.writeFileSync(FILE, `{"schema":${JSON.stringify(known.schema)},\n"cases":[\n${lines}\n]}\n`)
}

module.exports = { played, read, record }
