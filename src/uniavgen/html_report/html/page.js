"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const { media } = data;
const COLOURS = ["#1f5fa8", "#c46a12", "#1b6e3c", "#7a3b9a", "#777"];
const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const space = ["svg", "path", "line", "rect"].includes(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

const number = (value, digits = 3) => (value === null || value === undefined ? "-" : value.toFixed(digits));

function line(values, length, low, high) {
  const x = (index) => (values.length > 1 ? (index / (values.length - 1)) * 1000 * length : 0);
  const y = (value) => 95 - (90 * (value - low)) / Math.max(high - low, 1e-9);
  return "M" + values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join("L");
}

function plot(video, seconds, paths) {
  const hand = make("line", { x1: 0, x2: 0, y1: 0, y2: 100 });
  const picture = make("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none" }, ...paths, hand);
  const place = () => {
    const x = (1000 * video.currentTime) / seconds;
    hand.setAttribute("x1", x);
    hand.setAttribute("x2", x);
    if (!video.paused) requestAnimationFrame(place);
  };
  for (const event of ["play", "seeked", "timeupdate"]) video.addEventListener(event, place);
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    video.currentTime = (seconds * (event.clientX - box.left)) / box.width;
  });
  return picture;
}

function legend(names) {
  const parts = names.flatMap((name, index) => [make("i", { style: `background:${COLOURS[index % COLOURS.length]}` }), name]);
  return make("div", { class: "legend" }, ...parts);
}

function player(sound) {
  const video = make("video", { controls: "", preload: "metadata", playsinline: "" });
  if (sound) video.src = sound.source;
  return video;
}

function waveform(video, sound) {
  const [low, high] = [sound.peaks.map((pair) => pair[0]), sound.peaks.map((pair) => pair[1])];
  const wave = sound.peaks.map((_, i) => `M${(i * 1000) / low.length},${50 - 48 * high[i]}V${51 - 48 * low[i]}`).join("");
  return [legend(["waveform"]), plot(video, sound.seconds, [make("path", { d: wave, stroke: COLOURS[0] })])];
}
