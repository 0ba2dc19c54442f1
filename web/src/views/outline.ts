/** Where an area's name goes. Pure geometry in degrees: the district is small. */

type Ring = readonly (readonly number[])[];

/** Signed area (shoelace) and centroid of a ring. */
function ringCentre(ring: Ring): { area: number; lat: number; lon: number } {
  let area = 0;
  let x = 0;
  let y = 0;
  for (let i = 0; i < ring.length; i += 1) {
    const [x0 = 0, y0 = 0] = ring[i]!;
    const [x1 = 0, y1 = 0] = ring[(i + 1) % ring.length]!;
    const cross = x0 * y1 - x1 * y0;
    area += cross / 2;
    x += (x0 + x1) * cross;
    y += (y0 + y1) * cross;
  }
  if (area === 0) {
    const [lon = 0, lat = 0] = ring[0] ?? [];
    return { area: 0, lat, lon };
  }
  return { area: Math.abs(area), lat: y / (6 * area), lon: x / (6 * area) };
}

/** The centroid of the largest part. */
export function labelPoint(geometry: GeoJSON.Polygon | GeoJSON.MultiPolygon): {
  at: [number, number];
  area: number;
} {
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  let best = { area: -1, lat: 0, lon: 0 };
  for (const polygon of polygons) {
    const centre = ringCentre(polygon[0] ?? []);
    if (centre.area > best.area) best = centre;
  }
  return { at: [best.lat, best.lon], area: best.area };
}
