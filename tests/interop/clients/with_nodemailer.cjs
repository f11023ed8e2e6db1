// Brings one mail with nodemailer; the job is a JSON file. What went wrong is said on standard error.
const fs = require('fs');
const nodemailer = require('nodemailer');

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf-8'));
const bearer = job.mechanism === 'XOAUTH2';
const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  name: 'client.test',
  secure: job.tls === 'implicit',
  requireTLS: job.tls === 'starttls',
  tls: { ca: fs.readFileSync(job.root) },
  authMethod: job.mechanism,
  auth: bearer
    ? { type: 'OAuth2', user: job.user, accessToken: job.secret }
    : { user: job.user, pass: job.secret },
});
const content = fs.readFileSync(job.content);
const envelope = { from: job.sender, to: job.recipients, use8BitMime: content.some((octet) => octet > 127) };

transport.sendMail({ envelope, raw: content }).then(
  () => transport.close(),
  (error) => {
    console.error(`${error.code}: ${error.message}`);
    transport.close();
    process.exitCode = 1;
  },
);
