// WeChat mini-programs: wx.connectSocket in the shape of a WebSocket, wx storage, wx's signals that the page is back.
//
//   import { wechat } from './wechat.js';
//   import { connect } from './tidegate.js';
//   const chat = connect({ url, token, ...wechat(wx) });
//
// WeChat cuts a background page's socket after seconds, often without a close event: the wake signals make the SDK
// ask at once whether anybody is there, and the family 'wechat' gets the server's patience.

const NORMAL = 1000;

/** Options for connect(): family, WebSocket, storage, wake. */
export function wechat(wx) {
  return {
    family: 'wechat',
    WebSocket: socketOf(wx),
    storage: {
      get: (key) => wx.getStorageSync(key) || null,
      set: (key, value) => wx.setStorageSync(key, value),
      remove: (key) => wx.removeStorageSync(key),
    },
    locks: null, // one mini-program is one page to the outside
    wake: (callback) => wakeOf(wx, callback),
  };
}

function socketOf(wx) {
  return class WechatSocket {
    constructor(url, protocols) {
      this.binaryType = 'arraybuffer';
      this.onopen = this.onmessage = this.onclose = this.onerror = null;
      this.ended = false;
      this.task = wx.connectSocket({ url, protocols, fail: (error) => this.end(1006, error && error.errMsg) });
      this.task.onOpen((event) => this.onopen && this.onopen(event));
      this.task.onMessage((event) => this.onmessage && this.onmessage(event));
      this.task.onError((error) => this.end(1006, error && error.errMsg)); // no close follows an error here
      this.task.onClose((event) => this.end(event.code, event.reason));
    }

    end(code, reason) {
      if (this.ended) return;
      this.ended = true;
      if (this.onclose) this.onclose({ code: code || 1006, reason: reason || '' });
    }

    send(data) {
      // wx takes strings and ArrayBuffers that hold the message and nothing else.
      const whole = typeof data === 'string' || data.byteLength === data.buffer.byteLength;
      this.task.send({ data: typeof data === 'string' ? data : (whole ? data : data.slice()).buffer });
    }

    close(code = NORMAL, reason = '') {
      this.task.close({ code, reason });
    }
  };
}

function wakeOf(wx, callback) {
  const network = ({ isConnected }) => {
    if (isConnected) callback();
  };
  const shown = () => callback();
  wx.onNetworkStatusChange(network);
  wx.onAppShow(shown);
  return () => {
    if (wx.offNetworkStatusChange) wx.offNetworkStatusChange(network);
    if (wx.offAppShow) wx.offAppShow(shown);
  };
}
