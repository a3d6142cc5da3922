// UTF-8 both ways. Uses TextEncoder and TextDecoder where they exist; WeChat's mini-programs have neither, so the same
// is written out here. Ill-formed input becomes U+FFFD, one per maximal subpart, as the Encoding Standard says.

/** Without the platform's classes. */
export function encodeByHand(text) {
  const bytes = [];
  for (let i = 0; i < text.length; i++) {
    let point = text.charCodeAt(i);
    if (point >= 0xd800 && point <= 0xdfff) {
      const low = point < 0xdc00 ? text.charCodeAt(i + 1) : 0;
      if (low >= 0xdc00 && low <= 0xdfff) {
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        i++;
      } else {
        point = 0xfffd;
      }
    }
    if (point < 0x80) bytes.push(point);
    else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
    else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    else {
      bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    }
  }
  return new Uint8Array(bytes);
}

/** Without the platform's classes. */
export function decodeByHand(bytes) {
  let text = '';
  let i = 0;
  while (i < bytes.length) {
    const lead = bytes[i++];
    if (lead < 0x80) {
      text += String.fromCharCode(lead);
      continue;
    }
    // The second byte's range excludes overlong forms, surrogates, and what lies past U+10FFFF.
    let more = 0, low = 0x80, high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) more = 1;
    else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead === 0xe0) low = 0xa0;
      if (lead === 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead === 0xf0) low = 0x90;
      if (lead === 0xf4) high = 0x8f;
    }
    let point = lead & (0x3f >> more);
    let left = more;
    while (left > 0 && i < bytes.length && bytes[i] >= low && bytes[i] <= high) {
      point = (point << 6) | (bytes[i++] & 63);
      low = 0x80;
      high = 0xbf;
      left--;
    }
    if (more === 0 || left > 0) text += '\ufffd';
    else if (point < 0x10000) text += String.fromCharCode(point);
    else text += String.fromCharCode(0xd800 + ((point - 0x10000) >> 10), 0xdc00 + ((point - 0x10000) & 1023));
  }
  return text;
}

const encoder = typeof TextEncoder === 'function' ? new TextEncoder() : null;
const decoder = typeof TextDecoder === 'function' ? new TextDecoder('utf-8', { ignoreBOM: true }) : null;

/** Text to bytes. */
export const encodeUtf8 = (text) => (encoder ? encoder.encode(text) : encodeByHand(text));

/** Bytes to text. */
export const decodeUtf8 = (bytes) => (decoder ? decoder.decode(bytes) : decodeByHand(bytes));

/** The longest beginning of text that takes at most bytesMax in UTF-8. */
export function cutUtf8(text, bytesMax) {
  const bytes = encodeUtf8(text);
  if (bytes.length <= bytesMax) return text;
  let end = bytesMax;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
  return decodeUtf8(bytes.subarray(0, end));
}
