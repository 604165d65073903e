// Make a function that renders a shared component for a widget with the traits link and content.
function linkedView(create) {
  return ({ model, el }) => {
    const component = create(el, codeLink(model.get("link")));
    const update = () => component.update(model.get("content"));
    update();
    const stop = onChanges(model, ["content"], update);
    return () => {
      stop();
      component.close();
    };
  };
}
