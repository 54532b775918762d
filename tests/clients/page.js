// The files of docs/howto/watermelondb.md, written out as they stand there.
const fs = require('node:fs')
const path = require('node:path')

const PAGE = path.join(__dirname, '..', '..', 'docs', 'howto', 'watermelondb.md')
const FOLDER = path.join(__dirname, 'page')

fs.rmSync(FOLDER, { recursive: true, force: true })
fs.mkdirSync(FOLDER)
for (const [, name, text] of fs.readFileSync(PAGE, 'utf8').matchAll(/^```js (\S+)\n(.*?)^```$/gms)) {
  fs.writeFileSync(path.join(FOLDER, name), text)
}

module.exports = {
  ...require('./page/models'),
  ...require('./page/sync'),
  ...require('./page/conflicts'),
}
