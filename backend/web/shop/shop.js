// The demo shop speaks the browser's language, before anything is drawn; the widget's questions follow it.
document.documentElement.lang = (navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh-CN' : 'en';
